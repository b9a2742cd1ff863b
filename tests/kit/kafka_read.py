"""Reading topics back as any consumer would: committed records only, from the beginning to the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.kit.oracle import Posted

FETCH_BYTES = 8 << 20
STABLE_WITHIN_S = 60.0


class Read(NamedTuple):
    """One record as read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str:
        """Return the text of the header called *name*."""
        return dict(self.headers)[name].decode()


async def read_topics(
    bootstrap: str,
    topics: Sequence[str],
    partitions: int,
    *,
    isolation: str = "read_committed",
) -> list[Read]:
    """Return every record of *topics* up to the high watermark, by partition and offset.

    Waits until no transaction is open, so that a committed reader sees all there will be.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        consumer.assign(tps)
        ends = await _stable_ends(bootstrap, consumer, tps)
        await consumer.seek_to_beginning(*tps)
        return await _read_to(consumer, ends)
    finally:
        await consumer.stop()


async def read_events(bootstrap: str, topic: str, partitions: int) -> list[dict[str, Any]]:
    """Return the committed events of ``mail.events``, parsed."""
    return [json.loads(one.value) for one in await read_topics(bootstrap, [topic], partitions)]


async def read_posted(bootstrap: str, topics: Sequence[str], partitions: int) -> list[Posted]:
    """Return what the raw topics hold, as posted events, in log order, copies included."""
    return [
        Posted(
            json.loads(one.value),
            one.header("source"),
            int(one.header("received")),
            origin=one.header("origin"),
        )
        for one in await read_topics(bootstrap, topics, partitions)
    ]


async def _stable_ends(bootstrap: str, consumer: Any, tps: Sequence[Any]) -> dict[Any, int]:
    """Return the high watermarks once every last stable offset has reached its own."""
    plain = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await plain.start()
    try:
        highs: dict[Any, int] = await plain.end_offsets(tps)
        async with asyncio.timeout(STABLE_WITHIN_S):
            while True:
                stable = await consumer.end_offsets(tps)
                if all(stable[tp] >= high for tp, high in highs.items()):
                    return highs
                await asyncio.sleep(0.1)
    finally:
        await plain.stop()


async def _read_to(consumer: Any, ends: dict[Any, int]) -> list[Read]:
    # By place: a fetch that is repeated after a lost connection is still one record.
    records: dict[tuple[str, int, int], Read] = {}
    left = {tp for tp, end in ends.items() if end > 0}
    while left:
        for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
            for one in batch:
                if one.offset < ends[tp]:
                    place = tp.topic, tp.partition, one.offset
                    records[place] = Read(*place, one.key, one.value, tuple(one.headers))
        for tp in list(left):
            if await consumer.position(tp) >= ends[tp]:
                left.discard(tp)
                consumer.pause(tp)
    return [record for _place, record in sorted(records.items())]
