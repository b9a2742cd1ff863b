"""The board by its contract: what is shown, what is refused, what is freed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.delta import VERSION, DeltaFrame, FamilyRows, encode_frame
from pipeline.core.errors import FrameVersionError, InvariantError
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAMILY, KEY_SEPARATOR, Sum
from pipeline.core.pane import pane_length, panes_of_window
from pipeline.fold.board import Board
from tests.kit.frames import FrameRecord, Row, family_rows, frame

MINUTE, HOUR = 60_000, 3_600_000
WINDOWS = (MINUTE, 5 * MINUTE, HOUR)
NOW = 1_700_000_000_000
USER = FAMILY["user"]


def board_with(*rows: Row, now_ms: int = NOW) -> Board:
    board = Board(WINDOWS)
    board.open(0)
    board.complete(0)
    board.fold(0, [frame({"user": rows})], now_ms)
    return board


def counts(board: Board, window: int = HOUR) -> dict[tuple[str, ...], int]:
    totals = board.totals(USER, window)
    return dict(zip(totals.keys, totals.sums[Sum.COUNT].tolist(), strict=True))


def sent(key: str, at_ms: int = NOW, events: int = 1) -> Row:
    return Row((key,), "sent", at_ms, events)


def test_windows_are_shown_in_order_and_refused_when_they_are_no_windows() -> None:
    assert Board((HOUR, MINUTE)).windows_ms == (MINUTE, HOUR)
    for wrong in ((), (MINUTE, MINUTE), (7,), (25 * HOUR,)):
        with pytest.raises(ValueError, match="window"):
            Board(wrong)


def test_a_partition_is_shown_only_once_it_is_complete_and_only_while_it_is_open() -> None:
    board = Board(WINDOWS)
    board.open(3)
    board.fold(3, [frame({"user": [sent("ann")]})], NOW)
    assert (board.partitions, counts(board)) == ({3: False}, {})
    board.complete(3)
    assert (board.partitions, counts(board)) == ({3: True}, {("ann",): 1})
    board.open(3)
    assert (board.partitions, counts(board)) == ({3: False}, {})
    board.complete(3)
    assert counts(board) == {}
    board.close(3)
    board.close(3)
    assert (board.partitions, counts(board)) == ({}, {})


def test_a_partition_that_is_left_out_is_not_among_the_shares() -> None:
    board = board_with(sent("ann"))
    board.open(1)
    board.complete(1)
    assert [share.partition for share in board.shares("user")] == [0, 1]
    assert [share.partition for share in board.shares("user", without={0})] == [1]
    first, second = board.shares("user")
    assert first.epoch != second.epoch


def test_a_partition_that_is_not_open_is_refused() -> None:
    board = Board(WINDOWS)
    with pytest.raises(InvariantError, match="not open"):
        board.fold(0, [], NOW)
    with pytest.raises(InvariantError, match="not open"):
        board.complete(0)
    with pytest.raises(InvariantError, match="not open"):
        board.watermark_ms(0)
    board.settle("user", 0)


def test_the_clock_is_the_highest_time_seen() -> None:
    board = board_with(sent("ann", NOW))
    board.advance(NOW + 2 * HOUR)
    board.advance(NOW)
    assert (board.now_ms, counts(board)) == (NOW + 2 * HOUR, {})


def test_the_watermark_is_the_highest_of_all_frames() -> None:
    board = board_with()
    board.fold(0, [frame({}, watermark_ms=7), frame({}, watermark_ms=5)], NOW)
    assert board.watermark_ms(0) == 7


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_holds_exactly_its_panes(window: int) -> None:
    starts = panes_of_window(NOW, window)
    g = pane_length(window)
    for at, held in (
        (starts[0] - 1, False),
        (starts[0], True),
        (starts[-1] + g - 1, True),
        (starts[-1] + g, False),
    ):
        assert bool(counts(board_with(sent("ann", at)), window)) is held


def test_a_future_pane_counts_once_it_opens() -> None:
    board = board_with(sent("ann", NOW + 3 * MINUTE))
    assert counts(board) == {}
    board.advance(NOW + 3 * MINUTE)
    assert counts(board) == counts(board, MINUTE) == {("ann",): 1}


def test_a_frame_of_a_newer_program_is_refused() -> None:
    value = encode_frame(DeltaFrame(VERSION + 1, "raw.zonemta", 0, 0, []))
    with pytest.raises(FrameVersionError):
        board_with().fold(0, [FrameRecord(value)], NOW)


def test_a_tombstone_is_no_frame() -> None:
    with pytest.raises(InvariantError):
        board_with().fold(0, [FrameRecord(None)], NOW)


def test_families_that_this_program_does_not_know_are_skipped() -> None:
    rows = family_rows(USER, [sent("ann")])
    rows.family = "of tomorrow"
    board = board_with()
    board.fold(0, [frame({"user": [sent("bob")]}, families=[rows])], NOW)
    assert counts(board) == {("bob",): 1}


def test_a_sum_that_the_writer_did_not_know_is_zero() -> None:
    old = family_rows(USER, [Row(("ann",), "sent", NOW, 2, 3, 5)])
    del old.sums[Sum.RECIPIENTS]
    board = board_with(Row(("ann",), "sent", NOW, 1, 10, 100))
    board.fold(0, [frame({}, families=[old])], NOW)
    totals = board.totals(USER, HOUR)
    assert {name: column.tolist() for name, column in totals.sums.items()} == {
        Sum.COUNT: [3],
        Sum.RECIPIENTS: [10],
        Sum.BYTES: [105],
    }
    assert totals.event_types == ["sent"]


@pytest.mark.parametrize("column", ["key_index", "pane", "last", "sums"])
def test_columns_of_unequal_length_are_refused(column: str) -> None:
    rows = family_rows(FAMILY["ip"], [sent("192.0.2.1")])
    longer = {"count": bytes(16)} if column == "sums" else bytes(16)
    setattr(rows, column, longer)
    with pytest.raises(InvariantError, match="unequal"):
        board_with().fold(0, [frame({}, families=[rows])], NOW)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("key_index", b"\1\0\0\0", "names a key"),
        ("event_type", bytes([len(EVENT_TYPES)]), "event type"),
        ("keys", ["ann" + KEY_SEPARATOR + "more"], "other than 1 fields"),
    ],
)
def test_rows_that_point_nowhere_are_refused(column: str, value: object, message: str) -> None:
    rows = family_rows(USER, [sent("ann")])
    setattr(rows, column, value)
    board = board_with(sent("bob"))
    with pytest.raises(InvariantError, match=message):
        board.fold(0, [frame({}, families=[rows])], NOW)
    # A reader meets nothing of it: it would fail in the place of the fold.
    assert (board.partitions, counts(board)) == ({}, {})


def test_keys_that_no_row_uses_are_not_kept() -> None:
    rows = family_rows(USER, [sent("ann"), sent("bob")])
    rows.keys.insert(0, "nobody")
    rows.key_index = np.array([1, 2], "<u4").tobytes()
    board = board_with()
    board.fold(0, [frame({}, families=[rows])], NOW)
    assert counts(board) == {("ann",): 1, ("bob",): 1}
    (share,) = board.shares("user")
    assert set(share.names) == {"", "ann", "bob"}
    assert share.number("nobody") is None


def test_old_rows_leave_no_trace() -> None:
    board = board_with(sent("old", NOW - 2 * HOUR))
    (share,) = board.shares("user")
    assert (len(share.key), share.number("old")) == (0, None)


def test_slots_and_key_numbers_of_dead_keys_are_used_again() -> None:
    board = board_with(*(sent(f"a{n}") for n in range(100)))
    board.shares("user")
    later = NOW + 2 * HOUR
    board.fold(0, [frame({"user": [sent(f"b{n}", later) for n in range(100)]})], later)
    (share,) = board.shares("user")
    assert (len(share.names), len(share.key), share.alive.sum()) == (101, 100, 100)
    assert counts(board) == {(f"b{n}",): 1 for n in range(100)}


def test_a_key_stays_while_one_of_its_event_types_lives() -> None:
    board = board_with(sent("ann"), Row(("ann",), "bounced", NOW + 5 * MINUTE))
    board.shares("user")
    board.advance(NOW + 62 * MINUTE)
    (share,) = board.shares("user")
    assert share.number("ann") == 1
    assert np.count_nonzero(share.key) == 1
    assert counts(board) == {("ann",): 1}


def test_the_newest_event_time_goes_with_its_slot() -> None:
    board = Board(WINDOWS)
    board.open(0)
    board.complete(0)
    for now_ms, event_ms, newest in (
        (NOW, NOW, NOW),
        (NOW + MINUTE, NOW - MINUTE, NOW),
        (NOW + 90 * MINUTE, NOW + 80 * MINUTE, NOW + 80 * MINUTE),
    ):
        board.fold(0, [frame({"ip": [sent("192.0.2.1", event_ms)]})], now_ms)
        (share,) = board.shares("ip")
        assert share.last is not None
        assert share.last.tolist() == [newest]
    board.advance(NOW + 5 * HOUR)
    (share,) = board.shares("ip")
    assert share.last is not None
    assert share.last.tolist() == [0]


def test_bounded_fields_give_a_key_its_group_on_all_partitions() -> None:
    board = board_with()
    board.open(1)
    board.complete(1)
    for partition, provider in ((0, "google"), (1, "yahoo"), (1, "google")):
        row = Row((f"192.0.2.{partition}", provider), "delivered", NOW)
        board.fold(partition, [frame({"ip_provider": [row]})], NOW)
    first, second = board.shares("ip_provider")
    assert board.groups("ip_provider") == [("google",), ("yahoo",)]
    assert first.group[first.key].tolist() == [0]
    assert second.group[second.key].tolist() == [1, 0]


def test_many_rows_are_folded_unasked_and_panes_are_merged() -> None:
    board = board_with()
    for _ in range(50):
        board.fold(0, [frame({"user": [sent(f"u{n}") for n in range(300)]})], NOW)
    for n in range(200):
        board.fold(0, [frame({"user": [sent(f"u{n}")]})], NOW)
        board.settle("user", 0)
    assert counts(board) == {(f"u{n}",): 50 + (n < 200) for n in range(300)}
    board.advance(NOW + HOUR)
    board.settle("user", 0)
    board.advance(NOW + 2 * HOUR)
    assert counts(board) == {}


def test_panes_further_apart_than_a_small_integer_are_kept_apart() -> None:
    far = NOW + 10_000 * 100_000
    board = board_with(sent("ann"), sent("bob", far))
    assert counts(board) == {("ann",): 1}
    board.advance(far)
    assert counts(board) == {("bob",): 1}


def test_memory_follows_the_active_keys_not_those_that_passed() -> None:
    board = board_with()
    widths = []
    for minute in range(400):
        at_ms = NOW + minute * MINUTE
        keys = [f"user{minute * 2500 + n}@example.com" for n in range(2500)]
        ones = np.ones(len(keys), np.int64)
        pane = ones * (at_ms // 10_000)
        sums: dict[str, NDArray[np.int64]] = dict.fromkeys(USER.sums, ones)
        rows = FamilyRows.of(USER.name, keys, np.arange(len(keys)), ones, pane, sums)
        board.fold(0, [frame({}, families=[rows])], at_ms)
        (share,) = board.shares("user")
        widths.append((len(share.names), len(share.key)))
    assert share.alive.sum() == 60 * 2500
    assert widths[399] == widths[70]
    assert widths[399] <= (62 * 2500, 62 * 2500)


def with_values(count: int = 1) -> FamilyRows:
    row = Row(("ann",), "sent", NOW, values={"destinations": [f"d{n}" for n in range(count)]})
    return family_rows(USER, [row])


@pytest.mark.parametrize("column", ["key_index", "pane", "value"])
def test_columns_of_distinct_values_of_unequal_length_are_refused(column: str) -> None:
    rows = with_values()
    setattr(rows.distincts["destinations"], column, bytes(24 if column != "value" else 11))
    with pytest.raises(InvariantError, match="unequal"):
        board_with().fold(0, [frame({}, families=[rows])], NOW)


def test_a_distinct_value_of_a_key_that_does_not_exist_is_refused() -> None:
    rows = with_values()
    rows.distincts["destinations"].key_index = b"\1\0\0\0"
    with pytest.raises(InvariantError, match="distinct value"):
        board_with().fold(0, [frame({}, families=[rows])], NOW)


def test_distinct_values_that_this_program_does_not_count_are_skipped() -> None:
    rows = with_values(3)
    rows.distincts["of tomorrow"] = rows.distincts["destinations"]
    board = board_with()
    board.fold(0, [frame({}, families=[rows])], NOW)
    assert board.distinct(USER, "destinations", HOUR) == {("ann",): 3}
    assert board.distinct(USER, "client_ips", HOUR) == {}


def test_distinct_values_of_a_key_that_has_no_row_are_not_kept() -> None:
    rows = with_values(3)
    rows.keys.append("bob")
    rows.distincts["destinations"].key_index = np.array([0, 1, 1], "<u4").tobytes()
    board = board_with()
    board.fold(0, [frame({}, families=[rows])], NOW)
    assert board.distinct(USER, "destinations", HOUR) == {("ann",): 1}
