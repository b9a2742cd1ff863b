"""What the benches put on the raw topic: realistic events in the form that ingest gives them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.kit.raw_log import RawRecord, RawWriter, drawn_record
from tests.kit.stand import Stand, now_ms
from tests.kit.traffic import plain

SLICE: Final = 20_000
LIVE_RATE: Final = 100_000
"""Events a second at which the load happened: one worker at its full speed."""
SEED: Final = 1


async def load(stand: Stand, count: int) -> dict[str, Any]:
    """Write *count* events to ``raw.zonemta``, as if they had been received just now.

    Returns:
        What a figure should say about the load.
    """
    last = now_ms()
    first = last - count * 1000 // LIVE_RATE
    events = plain(count, seed=SEED, first_ms=first, last_ms=last)
    size = 0
    async with RawWriter(stand.bootstrap, stand.raw[0], stand.partitions) as writer:
        while records := list(_records(islice(events, SLICE), last)):
            size += sum(len(record.value) for record in records)
            await writer.write(records)
    return {"events": count, "event_bytes": size // count, "partitions": stand.partitions}


def _records(drawn: Any, received: int) -> Iterator[RawRecord]:
    return (drawn_record(one, received) for one in drawn)


class Progress:
    """How far the group has committed, asked of the broker alone: the worker is left in peace."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._admin = AIOKafkaAdminClient(bootstrap_servers=stand.bootstrap)
        self._tps = [TopicPartition(stand.raw[0], number) for number in range(stand.partitions)]

    async def __aenter__(self) -> Self:
        await self._admin.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._admin.close()

    async def committed(self) -> int:
        """Return how many records of ``raw.zonemta`` are committed."""
        done = await self._admin.list_consumer_group_offsets(self._stand.group)
        return sum(max(0, done[tp].offset) for tp in self._tps if tp in done)


async def high_watermarks(stand: Stand, topic: str) -> dict[Any, int]:
    """Return the end of each partition of *topic*."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stand.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(stand.partitions)]
        ends: dict[Any, int] = await consumer.end_offsets(tps)
        return ends
    finally:
        await consumer.stop()
