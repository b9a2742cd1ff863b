"""Rankings and series of the view, against a count of the same rows in plain Python."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.view.alerts import Alerts
from consumers.view.answers import Answers, RefusedError
from consumers.view.nodes import Nodes
from consumers.view.ranking import grouped, highest, one_key
from consumers.view.recent import Recent
from pipeline.core.event import partition_of
from pipeline.core.families import FAMILY, KEY_SEPARATOR, Sum
from pipeline.core.pane import MINUTE_MS
from pipeline.fold.board import Board
from tests.kit.frames import Row, frame

NOW = 1_700_000_000_000
HOUR = 60 * MINUTE_MS
USER, FAILURE = FAMILY["user"], FAMILY["failure"]
TYPES = ("sent", "delivered", "bounced")

rows = st.lists(
    st.builds(
        Row,
        key=st.tuples(st.sampled_from([f"user{number}" for number in range(12)])),
        event_type=st.sampled_from(TYPES),
        event_ms=st.integers(NOW - HOUR + MINUTE_MS, NOW),
        events=st.integers(1, 5),
        recipients=st.integers(0, 9),
        bytes=st.just(0),
    ),
    max_size=60,
)
failures = st.lists(
    st.builds(
        Row,
        key=st.tuples(
            st.sampled_from(("192.0.2.1", "192.0.2.2")),
            st.sampled_from(("google", "other")),
            st.sampled_from(("spam", "rate_limited", "mailbox_full")),
        ),
        event_type=st.sampled_from(("deferred", "bounced")),
        event_ms=st.just(NOW),
        events=st.integers(1, 5),
        recipients=st.just(0),
        bytes=st.just(0),
    ),
    max_size=40,
)


def board_of(family: str, held: list[Row], partitions: int = 3) -> Board:
    board = Board((5 * MINUTE_MS, HOUR))
    for number in range(partitions):
        mine = [
            row
            for row in held
            if partition_of(KEY_SEPARATOR.join(row.key).encode(), partitions) == number
        ]
        board.open(number)
        if mine:
            board.fold(number, [frame({family: mine})], NOW)
        board.complete(number)
    return board


@given(rows, st.sampled_from((None, *TYPES)), st.integers(1, 14))
def test_the_highest_keys_are_those_of_a_plain_count(
    held: list[Row], event_type: str | None, most: int
) -> None:
    counted: Counter[tuple[str, ...]] = Counter()
    for row in held:
        if event_type in (None, row.event_type):
            counted[row.key] += row.events
    expected = sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    ranking = highest(board_of("user", held), USER, HOUR, event_type, most)
    assert [(one.key, one.count) for one in ranking.rows] == expected[:most]
    assert (ranking.keys, ranking.total) == (len(counted), counted.total())
    for one in ranking.rows:
        mine = [row for row in held if row.key == one.key]
        types = {row.event_type for row in mine}
        assert one.events == {
            name: sum(row.events for row in mine if row.event_type == name) for name in types
        }
        assert one.sums["recipients"] == sum(row.recipients for row in mine)


@given(failures, st.sampled_from((None, "bounced")))
def test_groups_are_the_sums_over_all_keys_of_a_label(
    held: list[Row], event_type: str | None
) -> None:
    counted: Counter[str] = Counter()
    for row in held:
        if event_type in (None, row.event_type):
            counted[row.key[2]] += row.events
    ranking = grouped(board_of("failure", held), FAILURE, HOUR, event_type, 1)
    expected = sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    assert [(one.key[0], one.count) for one in ranking.rows] == expected


@given(rows)
def test_a_series_has_each_event_in_its_minute(held: list[Row]) -> None:
    board = board_of("user", held)
    for key in (None, "user1", "nobody"):
        counted: Counter[tuple[int, str]] = Counter()
        for row in held:
            if key in (None, row.key[0]):
                minute = row.event_ms - row.event_ms % MINUTE_MS
                counted[minute, row.event_type] += row.events
        found = board.history(USER, HOUR, Sum.COUNT, key)
        shown = {
            (start, name): int(counts[number])
            for start, counts in found.items()
            for number, name in ((0, "sent"), (1, "delivered"), (3, "bounced"))
            if counts[number]
        }
        assert shown == dict(counted)


def test_one_key_is_what_its_window_holds() -> None:
    held = [
        Row(("ann",), "sent", NOW, 2),
        Row(("ann",), "bounced", NOW - 10 * MINUTE_MS),
        Row(("bob",), "sent", NOW - 10 * MINUTE_MS),
    ]
    board = board_of("user", held)
    found = one_key(board, USER, HOUR, "ann")
    assert found is not None
    assert (found.count, found.events) == (3, {"sent": 2, "bounced": 1})
    found = one_key(board, USER, 5 * MINUTE_MS, "ann")
    assert found is not None
    assert found.events == {"sent": 2}
    assert one_key(board, USER, 5 * MINUTE_MS, "bob") is None
    assert one_key(board, USER, HOUR, "eve") is None


def test_a_series_is_by_the_minute_within_the_hour_and_by_five_minutes_before() -> None:
    board = Board((MINUTE_MS, 5 * MINUTE_MS, HOUR, 24 * HOUR))
    board.open(0)
    rows = [Row(("ann",), "sent", NOW), Row(("ann",), "sent", NOW - 23 * HOUR, 2)]
    board.fold(0, [frame({"user": rows})], NOW)
    board.complete(0)
    answers = Answers(board, Recent(), Nodes(), Alerts(), lambda: True)
    for from_ms, step_s, events in (
        (None, 60, 1),
        (NOW - 2 * MINUTE_MS, 60, 1),
        (NOW - 2 * HOUR, 300, 1),
        (NOW - 23 * HOUR, 300, 3),
    ):
        told = answers.series("user", ("ann",), from_ms, None)
        assert (told["step_s"], sum(told["events"]["sent"])) == (step_s, events)
        assert told["times"][-1] == NOW // 1000 // step_s * step_s
    with pytest.raises(RefusedError, match="holds 24h"):
        answers.series("user", (), NOW - 25 * HOUR, None)
