"""When a batch is released, and what it holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.batch import TopicPartition
from pipeline.transport.batch import IN_FLIGHT, MAX_RECORDS, MIN_RECORDS, TURN_S, Tap
from pipeline.transport.unpack import Unpacked
from tests.kit.plain import Plain, records

NEVER = float("inf")
NOW = float("-inf")
TP = TopicPartition("raw", 0)


def take(tap: Tap, start: int, count: int, position: int) -> None:
    tap.take(Unpacked(records(start, count), 0), position)


def test_the_first_record_is_released_at_once_and_the_next_after_the_interval() -> None:
    tap = Tap(TP, 5, paced=True)
    assert tap.due_at(1.0) == NEVER
    take(tap, 5, 1, 6)
    assert tap.due_at(1.0) == NOW
    batch = tap.release(100.0)
    assert (batch.start, batch.end, len(batch.records)) == (5, 6, 1)
    take(tap, 6, 1, 8)
    assert tap.due_at(1.0) == 101.0


def test_a_full_batch_does_not_wait_for_the_interval() -> None:
    tap = Tap(TP, 0, paced=True)
    take(tap, 0, 1, 1)
    tap.release(100.0)
    take(tap, 1, MAX_RECORDS, MAX_RECORDS + 1)
    assert tap.room == 0
    assert tap.due_at(1.0) == NOW


def test_large_records_fill_a_batch_by_their_size() -> None:
    tap = Tap(TP, 0, paced=True)
    take(tap, 0, 1, 1)
    tap.release(100.0)
    large = Plain(1, bytes(tap.max_size))
    tap.take(Unpacked([large], len(large.value)), 2)
    assert tap.room == 0
    assert tap.due_at(1.0) == NOW
    tap.release(100.0)
    assert tap.room == MAX_RECORDS


def test_batches_become_smaller_where_they_take_too_long() -> None:
    tap = Tap(TP, 0, paced=True)
    tap.adapt(10_000, 2 * TURN_S)
    assert tap.max_records == 5_000
    take(tap, 0, 6_000, 6_000)
    assert tap.room == 0
    batch = tap.release(0.0)
    assert (batch.start, batch.end, len(batch.records)) == (0, 5_000, 5_000)
    tap.adapt(5_000, 60.0)
    assert tap.max_records == MIN_RECORDS
    tap.adapt(10, 60.0)  # too few to tell
    tap.adapt(1_000, 0.001)
    assert tap.max_records == MAX_RECORDS


def test_no_batch_is_released_while_two_are_on_their_way() -> None:
    tap = Tap(TP, 0, paced=False)
    for place in range(IN_FLIGHT):
        take(tap, place, 1, place + 1)
        tap.release(0.0)
    take(tap, 9, 1, 10)
    assert tap.due_at(0.0) == NEVER
    tap.taken += 1
    assert tap.due_at(0.0) == NOW


def test_without_pace_a_position_that_moved_past_markers_is_told() -> None:
    tap = Tap(TP, 0, paced=False)
    assert tap.due_at(1.0) == NEVER
    take(tap, 0, 0, 3)
    assert tap.due_at(1.0) == NOW
    batch = tap.release(0.0)
    assert (batch.start, batch.end, list(batch.records)) == (0, 3, [])


def test_a_paced_partition_makes_no_transaction_of_markers_alone() -> None:
    tap = Tap(TP, 0, paced=True)
    take(tap, 0, 0, 3)
    assert tap.due_at(0.0) == NEVER


@given(st.lists(st.tuples(st.integers(0, 15_000), st.integers(0, 3)), max_size=8))
def test_batches_cover_the_log_without_gap_or_overlap(takes: list[tuple[int, int]]) -> None:
    tap = Tap(TP, 0, paced=False)
    log: list[int] = []
    read: list[int] = []
    position = 0

    def release() -> None:
        nonlocal position
        batch = tap.release(0.0)
        assert batch.start == position
        assert len(batch.records) <= MAX_RECORDS
        assert all(batch.start <= record.offset < batch.end for record in batch.records)
        read.extend(record.offset for record in batch.records)
        position = batch.end
        tap.taken += 1

    for count, markers in takes:
        if tap.room > 0:
            log.extend(range(tap.end, tap.end + count))
            take(tap, tap.end, count, tap.end + count + markers)
        if tap.due_at(0.0) <= 0.0:
            release()
    while tap.due_at(0.0) <= 0.0:
        release()
    assert read == log
    assert position == tap.end
    assert tap.drained
