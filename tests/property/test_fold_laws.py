"""Laws of the fold: the delta log is the state, so how and when it was read must not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAMILY, Sum
from pipeline.fold.board import Board
from tests.kit.frames import FrameRecord, Row, frame

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
NOW = 1_700_000_000_000 - 1_700_000_000_000 % HOUR
WINDOWS = (
    (MINUTE, 5 * MINUTE, HOUR),
    (10 * SECOND,),
    (5 * MINUTE, 6 * MINUTE),
    (HOUR,),
    (MINUTE, HOUR, 65 * MINUTE, 24 * HOUR),
)
USER, IP = FAMILY["user"], FAMILY["ip"]


class Fold(NamedTuple):
    """Rows that arrive together; their times are as if the clock still showed :data:`NOW`."""

    rows: Sequence[Row]


class Clock(NamedTuple):
    """The wall clock is moved, forward or back."""

    by_ms: int


class Restart(NamedTuple):
    """The partition moves away and comes back: it is folded again from the log, all at once."""


Step = Fold | Clock | Restart

AGES = st.one_of(
    st.integers(0, 6 * MINUTE),
    st.integers(0, 70 * MINUTE),
    st.integers(-6 * MINUTE, 0),
    st.sampled_from([n * g for g in (10 * SECOND, MINUTE, 5 * MINUTE) for n in range(-3, 70)]),
    st.integers(0, 26 * HOUR),
)
ROWS = st.builds(
    lambda key, kind, age, count, recipients, size: Row(
        (key,), kind, NOW - age, count, recipients, size
    ),
    st.sampled_from("ab"),
    st.sampled_from(("sent", "bounced")),
    AGES,
    st.integers(1, 5),
    st.integers(0, 3),
    st.integers(0, 1 << 40),
)
STEPS = st.lists(
    st.one_of(
        st.lists(ROWS, min_size=1, max_size=6).map(Fold),
        st.one_of(
            st.integers(-HOUR, 2 * HOUR),
            st.integers(MINUTE, HOUR),
            st.sampled_from((1, 10 * SECOND, MINUTE, 5 * MINUTE, HOUR, 30 * HOUR)),
        ).map(Clock),
        st.just(Restart()),
    ),
    max_size=12,
)


def shown(row: Row, now_ms: int, window: int) -> bool:
    """Tell, by the definition, whether a window holds a row's pane."""
    g = 10 * SECOND if window <= 5 * MINUTE else MINUTE if window <= HOUR else 5 * MINUTE
    p = now_ms - now_ms % g
    start = row.event_ms - row.event_ms % g
    return p - window < start <= p


def recount(
    rows: Iterable[Row], now_ms: int, window: int, name: Sum
) -> Counter[tuple[tuple[str, ...], str]]:
    """Count straight from the rows: slow, and obviously right."""
    counts: Counter[tuple[tuple[str, ...], str]] = Counter()
    for row in rows:
        if shown(row, now_ms, window):
            counts[row.key, row.event_type] += row.amount(name)
    return +counts


def on_the_board(board: Board, window: int, name: Sum) -> Counter[tuple[tuple[str, ...], str]]:
    totals = board.totals(USER, window)
    pairs = list(zip(totals.keys, totals.event_types, strict=True))
    assert len(pairs) == len(set(pairs))
    return +Counter(dict(zip(pairs, totals.sums[name].tolist(), strict=True)))


def newest_on_the_board(board: Board) -> dict[tuple[str, str], int]:
    newest: dict[tuple[str, str], int] = {}
    for share in board.shares(IP.name):
        assert share.last is not None
        for key, kind, last in zip(share.key, share.event_type, share.last, strict=True):
            if key:
                newest[share.names[key], EVENT_TYPES[kind]] = int(last)
    return newest


def newest_of(rows: Iterable[Row], now_ms: int, longest: int) -> dict[tuple[str, str], int]:
    newest: dict[tuple[str, str], int] = {}
    for row in rows:
        if shown(row, now_ms, longest) or row.event_ms > now_ms:
            key = row.key[0], row.event_type
            newest[key] = max(newest.get(key, 0), row.event_ms)
    return newest


def log_of(rows: Sequence[Row]) -> FrameRecord:
    return frame({"user": rows, "ip": rows})


def assert_equal_to_the_recount(
    board: Board, rows: Sequence[Row], now_ms: int, windows: Sequence[int]
) -> None:
    for window in windows:
        for name in USER.sums:
            assert on_the_board(board, window, name) == recount(rows, now_ms, window, name)
    assert newest_on_the_board(board) == newest_of(rows, now_ms, max(windows))


@settings(max_examples=400)
@given(STEPS, st.sampled_from(WINDOWS), st.booleans())
@example([Fold([Row(("a",), "sent", NOW)]), Clock(MINUTE)], WINDOWS[0], False)
@example(
    [Fold([Row(("a",), "sent", NOW + MINUTE)]), Clock(2 * HOUR), Clock(-HOUR)], WINDOWS[0], True
)
@example(
    [Fold([Row(("a",), "sent", NOW - HOUR // 2), Row(("a",), "sent", NOW)]), Clock(45 * MINUTE)],
    WINDOWS[0],
    True,
)
@example([Clock(-1), Fold([Row(("a",), "sent", NOW - HOUR)]), Clock(HOUR)], WINDOWS[3], True)
def test_windows_hold_what_the_recount_says_whatever_happens(
    steps: Sequence[Step], windows: Sequence[int], read_often: bool
) -> None:
    board = Board(windows)
    board.open(0)
    board.complete(0)
    wall = highest = NOW
    board.advance(NOW)
    log: list[Row] = []
    for step in steps:
        match step:
            case Fold(rows):
                now = [row._replace(event_ms=row.event_ms + wall - NOW) for row in rows]
                log.extend(now)
                board.fold(0, [log_of(now)], wall)
            case Clock(by_ms):
                wall += by_ms
                highest = max(highest, wall)
                board.advance(wall)
            case Restart():
                board.close(0)
                board.open(0)
                board.fold(0, [log_of(log[::-1])], wall)
                board.complete(0)
        if read_often:
            assert_equal_to_the_recount(board, log, highest, windows)
    assert board.now_ms == highest
    assert_equal_to_the_recount(board, log, highest, windows)


@given(st.lists(ROWS, max_size=40), st.randoms(use_true_random=False), st.integers(1, 7))
def test_order_and_grouping_of_rows_do_not_show(rows: list[Row], random: object, size: int) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis's own Random
    whole, pieces = Board(WINDOWS[0]), Board(WINDOWS[0])
    for board in whole, pieces:
        board.open(0)
        board.complete(0)
    whole.fold(0, [log_of(rows)], NOW)
    for start in range(0, len(rows), size):
        pieces.fold(0, [log_of(shuffled[start : start + size])], NOW)
        if start % 2:
            pieces.shares("user")
    for window in WINDOWS[0]:
        for name in USER.sums:
            assert on_the_board(whole, window, name) == on_the_board(pieces, window, name)


@given(st.lists(ROWS, max_size=30), AGES, AGES)
def test_once_all_panes_are_old_nothing_is_left(rows: list[Row], first: int, second: int) -> None:
    board = Board(WINDOWS[0])
    board.open(0)
    board.complete(0)
    board.fold(0, [log_of(rows)], NOW)
    for now in NOW + abs(first), NOW + abs(first) + abs(second):
        board.advance(now)
        board.shares("user")
    board.advance(NOW + 60 * HOUR)
    (share,) = board.shares("user")
    assert not share.alive.any()
    assert not any(share.names)
    assert not share.key.any()
    assert not any(columns.any() for columns in share.running.values())
