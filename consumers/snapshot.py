"""Reading what a topic holds now, once, from its beginning to its end; and single records of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.core.errors import TransientError
from pipeline.kit.clients import partitions_of, stop_consumer
from pipeline.kit.kafka import mapped_errors
from pipeline.kit.topic_admin import check_broker

POLL_MS: Final = 200
STALLED_S: Final = 30.0
NEAR: Final = 1000
"""Records up to a wanted one that are read rather than sought past."""
REQUEST_TIMEOUT_MS: Final = 10_000


@asynccontextmanager
async def connected(
    client: Mapping[str, Any], offset_reset: str = "earliest"
) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a consumer without a group; Kafka's errors inside become ours.

    Args:
        client: ``bootstrap_servers``, security: arguments of every aiokafka client.
        offset_reset: Where to go on if Kafka has let go of the next record; ``none``: that is an
            ``OffsetOutOfRangeError``.

    Raises:
        TransientError: Kafka does not answer.
        ConfigError: Kafka refuses us.
    """
    options = {**client, "request_timeout_ms": REQUEST_TIMEOUT_MS}
    with mapped_errors():
        await check_broker(options, client["bootstrap_servers"])
        consumer = AIOKafkaConsumer(
            **options,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset=offset_reset,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await stop_consumer(consumer)


async def all_records(consumer: AIOKafkaConsumer, topic: str) -> AsyncGenerator[Any, None]:
    """Yield the committed records that *topic* holds now; none if there is no such topic.

    Raises:
        TransientError: Kafka does not answer any more.
    """
    tps = [TopicPartition(topic, number) for number in await partitions_of(consumer, topic)]
    if not tps:
        return
    consumer.assign(tps)
    ends = await consumer.end_offsets(tps)
    await consumer.seek_to_beginning(*tps)
    async for record in _to(consumer, ends):
        yield record


async def records_at(
    consumer: AIOKafkaConsumer, tp: TopicPartition, offsets: Iterable[int]
) -> AsyncGenerator[tuple[int, Any], None]:
    """Yield each of *offsets*, which ascend, with the record of *tp* there, or None if it is gone.

    Raises:
        TransientError: Kafka does not answer any more.
    """
    if tp.partition not in await partitions_of(consumer, tp.topic):
        for offset in offsets:
            yield offset, None
        return
    consumer.assign([tp])
    first = (await consumer.beginning_offsets([tp]))[tp]
    end = (await consumer.end_offsets([tp]))[tp]
    reading: AsyncGenerator[Any, None] | None = None
    at, record = -NEAR, None
    for offset in offsets:
        if not first <= offset < end:
            yield offset, None
            continue
        if reading is None or offset - at > NEAR:
            consumer.seek(tp, offset)
            reading, record = _to(consumer, {tp: end}), None
        while record is None or record.offset < offset:
            record = await anext(reading, None)
            if record is None:
                break
        at = offset
        if record is None:  # the rest of the log is transaction markers
            reading = None
        yield offset, record if record is not None and record.offset == offset else None


async def _to(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncGenerator[Any, None]:
    left = set(ends)
    loop = asyncio.get_running_loop()
    moved_at = loop.time()
    positions: dict[TopicPartition, int] = {}
    while left:
        for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
            for record in records:
                if record.offset < ends[tp]:
                    yield record
        now = {tp: await consumer.position(tp) for tp in left}
        if now != positions:
            positions, moved_at = now, loop.time()
        elif loop.time() - moved_at > STALLED_S:
            raise TransientError(f"Kafka has sent nothing for {STALLED_S:.0f} s")
        for tp, position in now.items():
            if position >= ends[tp]:
                left.discard(tp)
                consumer.pause(tp)
