"""The time that the log proves."""

from __future__ import annotations

import pytest

from pipeline.fold.log_time import LogTime
from tests.kit.frames import Row
from tests.kit.oracle import MINUTE, SECOND
from tests.property.test_fold_laws import NOW
from tests.property.test_rollup_laws import WINDOWS, Partition


def test_it_goes_on_without_records_and_does_not_follow_a_wall_clock_that_is_set() -> None:
    time = LogTime()
    assert time.at(1_000_000, 7) == 0
    time.hear(1_000_000)
    time.hear(999_000)
    assert time.at(1_000_500, 100) == 1_000_000
    assert time.at(1_001_000, 600) == 1_000_500
    assert time.at(9_000_000, 1_600) == 1_001_500
    assert time.at(1_001_000, 1_600) == 1_001_000
    time.hear(1_001_200)  # what comes late to be read proves nothing new
    assert time.at(9_000_000, 1_700) == 1_001_600


@pytest.mark.parametrize("recovered", [False, True])
def test_what_came_late_is_written_though_nothing_comes_after_it(recovered: bool) -> None:
    partition = Partition(WINDOWS[0])
    partition.now = NOW + 50 * SECOND
    for ago in 58, 59:  # the second one after the first was rolled up
        partition.fold([Row(("a",), "sent", NOW - ago * MINUTE)])
        partition.roll_up(caught_up=True, late=True, committed=True)
        partition.roll_up(caught_up=True, late=True, committed=True)
    assert partition.cut is not None
    assert partition.cut.deltas_end == 1
    if recovered:
        partition.now += 20 * SECOND
        partition.recover(1, read_between=False)
    for _ in range(5 * MINUTE // SECOND):
        partition.now += SECOND
        partition.roll_up(caught_up=True, late=True, committed=True)
    assert partition.cut.deltas_end == 2
