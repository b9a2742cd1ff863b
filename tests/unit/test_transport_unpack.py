"""Fetches unpacked by the batch hold what aiokafka's own reading finds, however it is cut."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from pipeline.transport.unpack import Unpacked, unpack

PARTITION = KafkaPartition("raw", 0)
BATCHES = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from((0, 2, 3)), st.sampled_from((-1, 7, 8))),
    max_size=8,
)


def _fetched(batches: list[tuple[int, int, int]]) -> bytes:
    """Encode batches of (records, codec, producer); producers from 0 on write in transactions."""
    out = bytearray()
    offset = 0
    for count, codec, producer in batches:
        builder = DefaultRecordBatchBuilder(
            2, codec, int(producer >= 0), producer, 0 if producer >= 0 else -1, 0, 1 << 20
        )
        for place in range(count):
            builder.append(place, 1, b"k", b"%d" % (offset + place), [("id", b"x")])
        encoded = bytearray(builder.build())
        encoded[0:8] = offset.to_bytes(8, "big")  # the broker sets the base offset; no CRC over it
        out += encoded
        offset += count
    return bytes(out)


def _partition_records(data: bytes, aborted: list[tuple[int, int]], start: int) -> Any:
    return PartitionRecords(
        PARTITION, MemoryRecords(data), aborted, start, None, None, True, READ_COMMITTED
    )


class _Assignment:
    """An assignment of one partition, outside an event loop."""

    active = True

    def __init__(self, position: int) -> None:
        self.paused = False
        self.position = position

    def state_value(self, _: KafkaPartition) -> _Assignment:
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


def _result(data: bytes, aborted: list[tuple[int, int]], start: int) -> tuple[Any, _Assignment]:
    assignment = _Assignment(start)
    found = _partition_records(data, aborted, start)
    result = FetchResult(PARTITION, assignment=assignment, partition_records=found, backoff=0)
    return result, assignment


@given(BATCHES, st.integers(0, 25), st.integers(1, 30), st.booleans())
def test_the_same_records_come_out_in_any_portions(
    batches: list[tuple[int, int, int]], start: int, limit: int, aborts: bool
) -> None:
    total = sum(count for count, _, _ in batches)
    start = min(start, total)
    data = _fetched(batches)
    aborted = [(7, 0)] if aborts else []
    plain = _partition_records(data, list(aborted), start)
    expected = [(record.offset, record.value) for record in plain]
    result, assignment = _result(data, list(aborted), start)
    largest = max((count for count, _, _ in batches), default=0)
    seen: list[tuple[int, bytes]] = []
    while result.has_more():
        portion = unpack(result, limit, 1 << 30).records
        assert len(portion) < limit + largest
        seen += [(record.offset, record.value or b"") for record in portion]
    assert seen == expected
    assert assignment.position == plain.next_fetch_offset


def test_a_broken_batch_is_told_and_what_came_before_it_is_kept() -> None:
    good = _fetched([(3, 0, -1)])
    broken = bytearray(_fetched([(3, 0, -1), (3, 0, -1)]))
    broken[-1] ^= 1
    result, assignment = _result(bytes(broken), [], 0)
    assert len(unpack(result, 1, 9).records) == 3
    with pytest.raises(CorruptRecordException):
        unpack(result, 10, 99)
    assert assignment.position == 3
    assert len(unpack(_result(good, [], 0)[0], 10, 99).records) == 3


def test_a_fetch_from_before_a_seek_is_left_out() -> None:
    result, assignment = _result(_fetched([(3, 0, -1)]), [], 0)
    assignment.position = 99
    assert unpack(result, 10, 99) == Unpacked([], 0)
    assert assignment.position == 99


def test_a_portion_ends_when_its_bytes_are_enough() -> None:
    result, _ = _result(_fetched([(5, 0, -1), (5, 0, -1)]), [], 0)
    assert unpack(result, 100, 3).size == 5
    assert unpack(result, 100, 99).size == 5
    assert not result.has_more()
