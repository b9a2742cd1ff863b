"""Where a reader begins in a topic of which it has read nothing yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition


@dataclass(frozen=True, slots=True)
class Now:
    """At the end: only what is committed from now on."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """At the oldest record that Kafka still holds."""


@dataclass(frozen=True, slots=True)
class Since:
    """At the first record that was written at a time or later.

    Records bear the time at which the pipeline wrote them, not the time of the event.
    """

    time_ms: int
    """Milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Offsets:
    """At an offset per partition.

    A partition that is not named, or does not reach the offset, is read from its beginning.
    """

    by_partition: Mapping[int, int]


Start: TypeAlias = Now | Beginning | Since | Offsets


async def first_offset(consumer: AIOKafkaConsumer, tp: TopicPartition, start: Start) -> int:
    """Return the offset in *tp* at which *start* is, asking Kafka with *consumer*."""
    match start:
        case Offsets(by_partition) if tp.partition in by_partition:
            return by_partition[tp.partition]
        case Now():
            return _of(await consumer.end_offsets([tp]), tp)
        case Since(time_ms):
            # The end first: records written between the two questions must not be skipped.
            end = _of(await consumer.end_offsets([tp]), tp)
            found = (await consumer.offsets_for_times({tp: time_ms}))[tp]
            return end if found is None else int(found.offset)
        case _:
            return _of(await consumer.beginning_offsets([tp]), tp)


def _of(offsets: Mapping[Any, int], tp: TopicPartition) -> int:
    return int(offsets[tp])
