"""The seen-set: what is new, what is a duplicate, and what is forgotten when."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.core.seen import VERSION, SeenRun, Segment
from pipeline.enrich.dedupe import (
    BUCKETS,
    Bucket,
    Hashes,
    SeenSet,
    Verdict,
    reach_ms,
    segments_of,
)

HORIZON = 24_000
WIDTH = HORIZON // BUCKETS


def hashes(*numbers: int) -> Hashes:
    return np.array([number * 0x9E3779B97F4A7C15 % (1 << 64) for number in numbers], np.uint64)


def times(at: int | Sequence[int], number: int) -> np.typing.NDArray[np.int64]:
    return np.array([at] * number if isinstance(at, int) else at, np.int64)


class Log:
    """A seen-set and the batches given to it."""

    def __init__(self, max_bucket: int = 1_000_000) -> None:
        self.seen = SeenSet(HORIZON, max_bucket)
        self.runs: list[SeenRun] = []

    def judge(self, at: int | Sequence[int], *numbers: int) -> Verdict:
        return self.seen.judge(hashes(*numbers), times(at, len(numbers)))

    def commit(self, at: int | Sequence[int], *numbers: int) -> list[bool]:
        verdict = self.judge(at, *numbers)
        end = self.runs[-1].end if self.runs else 0
        run = SeenRun(*(VERSION, "raw", 0, end, end + 10, verdict.clock_ms), segments_of(verdict))
        self.runs.append(run)
        self.seen.commit(verdict)
        new: list[bool] = verdict.new.tolist()
        return new


def test_an_id_is_new_once() -> None:
    log = Log()
    assert log.commit(0, 1, 2, 1, 3, 1) == [True, True, False, True, False]
    assert log.commit(0, 3, 4) == [False, True]
    assert log.commit(0) == []
    assert log.seen.count == 4


def test_judging_changes_nothing() -> None:
    log = Log()
    for _ in range(2):
        assert log.judge(5, 1, 2).new.tolist() == [True, True]
    assert (log.seen.count, log.seen.clock_ms) == (0, 0)


def test_an_id_is_remembered_for_its_bucket_longer_than_the_horizon_at_most() -> None:
    reach = reach_ms(HORIZON)
    for at, remembered in ((0, reach - 1), (WIDTH - 1, reach - WIDTH)):
        for later, new in ((remembered, False), (remembered + 1, True)):
            log = Log()
            log.commit(at, 1)
            assert log.commit(at + later, 1) == [new]


def test_an_id_is_forgotten_after_the_horizon_and_not_before() -> None:
    log = Log()
    log.commit(500, 1)
    log.commit(500 + HORIZON, 2)
    assert log.judge(500 + HORIZON, 1).new.tolist() == [False]
    assert log.judge(WIDTH + HORIZON, 1).new.tolist() == [True]


def test_within_a_batch_the_horizon_moves_too() -> None:
    log = Log()
    log.commit(0, 7)
    late = HORIZON + WIDTH
    verdict = log.judge([0, HORIZON, late, late, 0], 7, 7, 7, 8, 7)
    assert verdict.new.tolist() == [False, False, True, True, False]
    assert [(start, len(part)) for start, part in verdict.segments] == [(late, 2)]


def test_an_id_that_comes_back_after_the_horizon_within_one_batch_is_new_twice() -> None:
    log = Log()
    late = HORIZON + WIDTH
    assert log.judge([0, 0, late, late], 7, 7, 7, 7).new.tolist() == [True, False, True, False]


def test_the_clock_is_the_highest_received_and_never_goes_back() -> None:
    log = Log()
    log.commit([5_000, 1_000], 1, 2)
    assert log.seen.clock_ms == 5_000
    log.commit(100, 3)
    assert log.seen.clock_ms == 5_000
    assert log.commit(100, 1, 2, 3) == [False, False, False]


def test_a_batch_over_several_buckets_is_written_in_segments() -> None:
    log = Log()
    verdict = log.judge([WIDTH + 1, 3 * WIDTH, 3 * WIDTH, 1], 1, 2, 3, 4)
    assert [(start, len(part)) for start, part in verdict.segments] == [(WIDTH, 1), (3 * WIDTH, 3)]
    for _start, part in verdict.segments:
        assert (part[1:] > part[:-1]).all()


def test_what_is_not_usable_is_neither_new_nor_seen_but_moves_the_clock() -> None:
    seen = SeenSet(HORIZON, 100)
    ids, at = hashes(1, 1, 2), times([1, 2, 9_000], 3)
    verdict = seen.judge(ids, at, np.array([False, True, False]))
    assert verdict.new.tolist() == [False, True, False]
    assert verdict.clock_ms == 9_000


def test_a_warmed_set_judges_as_the_one_that_wrote_the_runs() -> None:
    log = Log()
    for place in range(60):
        log.commit(place * WIDTH // 2, *range(place * 7, place * 7 + 10))
    for times_warmed in (1, 2):
        warmed = SeenSet(HORIZON, 1_000_000)
        for _ in range(times_warmed):
            for run in log.runs:
                warmed.warm(run)
        assert (warmed.clock_ms, warmed.count) == (log.seen.clock_ms, log.seen.count)
        ids, at = hashes(*range(500)), times(log.seen.clock_ms, 500)
        expected = log.seen.judge(ids, at).new
        assert (warmed.judge(ids, at).new == expected).all()


def test_a_source_read_again_from_further_up_warms_with_what_it_added() -> None:
    seen = SeenSet(HORIZON, 100)
    for end, number in ((100, 1), (50, 2), (50, 2)):
        column = hashes(number).tobytes()
        seen.warm(SeenRun(VERSION, "raw", 0, end - 1, end, 10, [Segment(0, column)]))
    assert seen.count == 2
    assert seen.judge(hashes(1, 2, 3), times(10, 3)).new.tolist() == [False, False, True]


def test_many_batches_in_one_bucket_are_merged() -> None:
    bucket = Bucket(0)
    for place in range(1000):
        bucket.add(np.sort(hashes(*range(place * 5, place * 5 + 5))))
    assert bucket.count == 5000
    assert len(bucket.runs) < 8
    bucket.add(np.sort(hashes(*range(10))))
    bucket.seal()
    assert (bucket.count, bucket.runs) == (5000, [])


def test_ids_are_found_in_full_buckets_and_in_open_ones() -> None:
    log = Log()
    for place in range(20):
        log.commit(place * WIDTH, *range(place * 100, place * 100 + 100))
    assert not log.judge(20 * WIDTH, *range(2000)).new.any()
    assert log.judge(20 * WIDTH, *range(2000, 9000)).new.all()


def test_a_bucket_that_grows_too_large_is_closed_early() -> None:
    log = Log(max_bucket=50)
    for place in range(10):
        log.commit(0, *range(place * 20, place * 20 + 20))
    assert not log.judge(0, *range(200)).new.any()
    log.seen.forget_oldest()
    assert 0 < log.seen.count < 200
    assert log.judge(0, *range(200)).new.sum() == 200 - log.seen.count


def test_forgetting_early_shortens_the_memory() -> None:
    log = Log()
    log.commit(0, 1)
    log.commit(WIDTH, 2)
    assert log.seen.oldest_ms == 0
    log.seen.forget_oldest()
    assert (log.seen.forgotten_ms, log.seen.count) == (WIDTH, 1)
    assert log.commit(WIDTH, 1, 2) == [True, False]


def test_a_horizon_of_nothing_still_works() -> None:
    seen = SeenSet(0, 10)
    verdict = seen.judge(hashes(1, 1), times(5, 2))
    assert verdict.new.tolist() == [True, False]
    seen.commit(verdict)
    assert seen.judge(hashes(1), times(5 + BUCKETS + 1, 1)).new.tolist() == [True]


def test_a_million_ids_take_twelve_megabytes_at_most() -> None:
    seen = SeenSet(HORIZON, 1_000_000)
    rng = np.random.default_rng(1)
    for place in range(40):
        ids = rng.integers(0, 1 << 64, 25_000, np.uint64)
        seen.commit(seen.judge(ids, times(place * HORIZON // 41, 25_000)))
    assert seen.count == 1_000_000
    assert seen.nbytes <= 12_000_000
