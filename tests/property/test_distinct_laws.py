"""Laws of distinct counts: exact up to the limit however rows came, and bounded whatever comes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.delta import DistinctRows, FamilyRows
from pipeline.core.families import DISTINCT_LIMIT, FAMILY
from pipeline.fold.board import Board
from pipeline.fold.distincts import DistinctFold
from tests.kit.frames import FrameRecord, Row, frame

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
NOW = 1_700_000_000_000 - 1_700_000_000_000 % HOUR
WINDOWS = (5 * MINUTE, HOUR)
USER = FAMILY["user"]
FIELD = "destinations"
Counts = dict[int, dict[tuple[str, ...], int]]

AGES = st.one_of(
    st.integers(-6 * MINUTE, 70 * MINUTE),
    st.sampled_from([n * g for g in (10 * SECOND, MINUTE, 5 * MINUTE) for n in range(-3, 70)]),
)
ROWS = st.builds(
    lambda key, age, values: Row((key,), "sent", NOW - age, values={FIELD: values}),
    st.sampled_from("abc"),
    AGES,
    st.lists(st.sampled_from("vwxyz"), max_size=3),
)
FOLDS = st.lists(st.lists(ROWS, max_size=6), max_size=6)
CLOCKS = st.lists(
    st.one_of(
        st.integers(0, 2 * HOUR), st.sampled_from((0, 10 * SECOND, MINUTE, 5 * MINUTE, HOUR))
    ),
    min_size=1,
    max_size=4,
)


def recount(rows: Iterable[Row], now_ms: int, windows: Sequence[int] = WINDOWS) -> Counts:
    """Count straight from the rows: slow, and obviously right."""
    counts: Counts = {}
    for window in windows:
        g = 10 * SECOND if window <= 5 * MINUTE else MINUTE
        p = now_ms - now_ms % g
        found: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for row in rows:
            if p - window < row.event_ms - row.event_ms % g <= p:
                found[row.key].update(row.values.get(FIELD, ()))
        counts[window] = {
            key: min(len(values), DISTINCT_LIMIT) for key, values in found.items() if values
        }
    return counts


def on_the_board(board: Board, windows: Sequence[int] = WINDOWS) -> Counts:
    return {window: board.distinct(USER, FIELD, window) for window in windows}


def opened(*records: FrameRecord, now_ms: int = NOW) -> Board:
    board = Board(WINDOWS)
    board.open(0)
    board.complete(0)
    for record in records:
        board.fold(0, [record], now_ms)
    return board


@settings(max_examples=300)
@given(FOLDS, CLOCKS, st.booleans())
@example([[Row(("a",), "sent", NOW + 4 * MINUTE, values={FIELD: "v"})]], [4 * MINUTE], True)
@example([[Row(("a",), "sent", NOW + 30 * SECOND, values={FIELD: "v"})]], [0], True)
def test_windows_hold_what_the_recount_says(
    folds: Sequence[Sequence[Row]], clocks: Sequence[int], read_often: bool
) -> None:
    board, log, now = opened(), list[Row](), NOW
    for step, rows in enumerate(folds):
        moved = [row._replace(event_ms=row.event_ms + now - NOW) for row in rows]
        log.extend(moved)
        board.fold(0, [frame({"user": moved})] * 2, now)
        if read_often:
            assert on_the_board(board) == recount(log, now)
        now += clocks[step % len(clocks)]
        board.advance(now)
    assert on_the_board(board) == recount(log, now)
    again = opened(frame({"user": log[::-1]}), now_ms=now)
    assert on_the_board(again) == recount(log, now)


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_exact_up_to_the_limit_and_the_limit_above(seed: int) -> None:
    rnd = random.Random(seed)
    board, log, now = opened(), list[Row](), NOW
    for _ in range(25):
        rows = [
            Row(
                (rnd.choice("ab"),),
                "sent",
                now - rnd.choice((0, 0, rnd.randrange(70 * MINUTE))),
                values={FIELD: [f"v{rnd.randrange(rnd.choice((300, 2600)))}" for _ in range(40)]},
            )
            for _ in range(12)
        ]
        log.extend(rows)
        board.fold(0, [frame({"user": rows})], now)
        now += rnd.choice((SECOND, MINUTE, 4 * MINUTE))
        board.advance(now)
        assert on_the_board(board) == recount(log, now)


def test_millions_of_values_of_one_key_take_bounded_memory() -> None:
    board, rng = opened(), np.random.default_rng(7)
    one = np.zeros(1, np.int64)
    for step in range(100):
        now = NOW + step * SECOND
        rows = FamilyRows.of(
            "user", ["ann"], one, one, one + now // 10_000, {"count": one, "recipients": one}
        )
        ahead = rng.integers(-5, 30, 20_000)
        values = rng.integers(0, 1 << 63, 20_000).astype(np.uint64)
        rows.distincts[FIELD] = DistinctRows.of(
            np.zeros(20_000, np.int64), now // 10_000 + ahead, values
        )
        board.fold(0, [frame({}, families=[rows])], now)
    (share,) = board.shares("user")
    assert share.distincts[FIELD].size < 200_000
    assert board.distinct(USER, FIELD, HOUR) == {("ann",): DISTINCT_LIMIT}


def test_what_is_too_old_goes_where_nothing_arrives() -> None:
    board = opened(
        frame({"user": [Row(("ann",), "sent", NOW, values={FIELD: [str(n) for n in range(50)]})]})
    )
    (share,) = board.shares("user")
    assert share.distincts[FIELD].size == 50
    board.advance(NOW + 2 * HOUR)
    (share,) = board.shares("user")
    assert share.distincts[FIELD].size == 0


def test_without_a_window_nothing_is_kept() -> None:
    fold = DistinctFold(())
    fold.advance(NOW)
    fold.add(np.ones(1, np.int32), np.full(1, NOW // 10_000), np.ones(1, np.uint64))
    assert fold.size == 0
