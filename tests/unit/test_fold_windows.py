"""Tiers and panes by themselves: what is kept, for how long, and how compactly."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.pane import HOUR_MS, MINUTE_MS
from pipeline.fold.panes import Pane
from pipeline.fold.windows import Tier, tiers

SIZE = 8


def tier(now_ms: int = 100 * MINUTE_MS) -> Tier:
    one = Tier(MINUTE_MS, (10 * MINUTE_MS, HOUR_MS), 1)
    one.grow(SIZE)
    one.advance(now_ms, SIZE)
    return one


def add(to: Tier, panes: list[int], slots: list[int], amount: int = 1) -> None:
    sums = np.full((1, len(panes)), amount, np.int64)
    to.add(np.array(panes, np.int64), np.array(slots, np.int32), sums, SIZE)


def shown(one: Tier) -> list[dict[int, int]]:
    return [{slot: int(n) for slot, n in enumerate(row[0]) if n} for row in one.running]


def test_tiers_are_made_of_the_windows_of_one_pane_length_finest_first() -> None:
    made = tiers((HOUR_MS, MINUTE_MS, 24 * HOUR_MS, 5 * MINUTE_MS), 1)
    assert [one.windows_ms for one in made] == [
        (MINUTE_MS, 5 * MINUTE_MS),
        (HOUR_MS,),
        (24 * HOUR_MS,),
    ]


def test_base_panes_lie_in_the_panes_of_a_tier() -> None:
    assert tier().index(np.array([0, 5, 6, 13])).tolist() == [0, 0, 1, 2]
    assert Tier(10_000, (MINUTE_MS,), 1).index(np.array([5, 6])).tolist() == [5, 6]


def test_rows_of_panes_outside_the_longest_window_are_not_kept() -> None:
    one = tier()
    add(one, [40, 41, 100], [1, 2, 3])
    add(one, [40], [1])
    add(one, [], [])
    assert shown(one) == [{3: 1}, {2: 1, 3: 1}]
    assert one.held(np.array([40, 41])).tolist() == [False, True]
    assert [index for index, _ in one.advance(101 * MINUTE_MS, SIZE)] == [41]
    assert shown(one) == [{3: 1}, {3: 1}]


def test_panes_leave_oldest_first_and_only_when_time_has_passed() -> None:
    one = tier()
    add(one, [60, 50, 70], [1, 2, 3])
    assert one.advance(100 * MINUTE_MS + 59_999, SIZE) == []
    assert [index for index, _ in one.advance(125 * MINUTE_MS, SIZE)] == [50, 60]


def test_panes_65536_apart_are_kept_apart() -> None:
    one, far = tier(), 100 + (1 << 16)
    add(one, [100, far, 100, far], [1, 2, 3, 4])
    assert shown(one)[0] == {1: 1, 3: 1}
    one.advance(far * MINUTE_MS, SIZE)
    assert shown(one)[0] == {2: 1, 4: 1}


@pytest.mark.parametrize("chunks", [1, 31, 32, 100, 2000])
def test_a_pane_keeps_few_chunks_and_loses_nothing(chunks: int) -> None:
    pane = Pane()
    for n in range(chunks):
        pane.append(np.array([n % SIZE, 0], np.int32), np.array([[1, 1]]), SIZE)
    assert len(pane._chunks) < 32 + 1
    running = np.zeros((1, SIZE), np.int64)
    pane.add_to(running)
    assert running.sum() == 2 * chunks
    pane.merge(SIZE)
    pane.merge(SIZE)
    assert [len(slots) for slots, _ in pane._chunks] == [len(pane.slots())]
    pane.subtract_from(running)
    assert not running.any()


def test_a_pane_is_merged_when_it_closes() -> None:
    one = tier()
    for _ in range(5):
        add(one, [100], [1])
    one.advance(101 * MINUTE_MS, SIZE)
    assert len(one._panes[100]._chunks) == 1
    assert shown(one)[0] == {1: 5}
