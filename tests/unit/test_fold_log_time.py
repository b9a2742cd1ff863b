"""The time that the log proves."""

from __future__ import annotations

from pipeline.fold.log_time import LogTime


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
