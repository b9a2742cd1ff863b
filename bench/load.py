"""What the benches put on the raw topic: realistic events in the form that ingest gives them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Self

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

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
        try:
            done = await self._admin.list_consumer_group_offsets(self._stand.group)
        except GroupCoordinatorNotAvailableError:  # the broker's first group is being made
            return 0
        return sum(max(0, done[tp].offset) for tp in self._tps if tp in done)


async def floor(stand: Stand, count: int) -> float:
    """Return the CPU seconds of reading and parsing *count* events of ``raw.zonemta``: no more."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stand.bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=1 << 20,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(stand.raw[0], n) for n in range(stand.partitions)])
        before, read = time.process_time(), 0
        while read < count:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    orjson.loads(record.value)
                read += len(records)
        return time.process_time() - before
    finally:
        await consumer.stop()
