"""Reading logs from somewhere to the end that they have now, outside the group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from pipeline.core.batch import Witness
from pipeline.kit.clients import WAIT_MS, partitions_of, records_until, stop_consumer
from pipeline.kit.transactions import CLIENT_FAILURES
from pipeline.transport.options import EngineOptions

log = logging.getLogger(__name__)

MOST_EVENTS: Final = 50_000
"""Events that are looked through for one piece of evidence; of more the newest ones."""
WITNESS_S: Final = 5.0
"""Evidence takes no longer."""
TURN: Final = 2_000
"""Events looked through between two turns of the event loop."""


@asynccontextmanager
async def reading(
    options: EngineOptions, reset: str = "earliest"
) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer of committed records that is in no group; *reset* is ``auto_offset_reset``."""
    consumer = AIOKafkaConsumer(
        **options.client,
        isolation_level="read_committed",
        auto_offset_reset=reset,
        enable_auto_commit=False,
        fetch_max_wait_ms=WAIT_MS,
        max_partition_fetch_bytes=options.partition_fetch_bytes,
        request_timeout_ms=options.request_timeout_ms,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await stop_consumer(consumer)


async def ask(witness: Witness, topic: str, options: EngineOptions) -> None:
    """Show *witness* the newest events, at most :data:`MOST_EVENTS`; without Kafka it sees fewer."""
    try:
        async with asyncio.timeout(WITNESS_S), reading(options) as consumer:
            numbers = await partitions_of(consumer, topic) or ()
            partitions = [KafkaPartition(topic, number) for number in numbers]
            if not partitions:
                return
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            starts = await consumer.offsets_for_times(dict.fromkeys(partitions, witness.since_ms))
            for partition, end in ends.items():
                start = starts[partition]
                newest = max(0, end - MOST_EVENTS // len(partitions))
                consumer.seek(partition, end if start is None else max(start.offset, newest))
            async for records in records_until(consumer, ends):
                for place, record in enumerate(records, 1):
                    witness.take(record.value or b"")
                    if place % TURN == 0:
                        await asyncio.sleep(0)
    except CLIENT_FAILURES as exc:
        log.warning(
            "an alert goes out with less evidence",
            extra={"topic": topic, "error": f"{type(exc).__name__}: {exc}"},
        )
