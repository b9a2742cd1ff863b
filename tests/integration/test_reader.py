"""Reading a topic as a member of a group, while connections are left and opened again."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from consumers.reader import Reader, ReaderOptions
from consumers.start import Beginning
from pipeline.kit.clock import SystemClock
from pipeline.kit.kafka import client_options
from tests.kit.event_log import event_log, numbered

pytestmark = pytest.mark.integration

SOON_S = 60.0


def test_what_a_client_that_was_left_still_tells_is_not_heeded(broker: str) -> None:
    async def read() -> None:
        await log.write(numbered(0, 20))
        reader = Reader(options, SystemClock())
        try:
            await reader.open()
            assert (await reader.read()).records
            old = reader._consumer
            await reader._leave()
            await reader.open()
            reader.assign(old, [TopicPartition(log.topic, n) for n in range(log.partitions)])
            again = await reader.read()
            assert again.records
            await reader.revoke(old)
            assert reader.holds(again)
        finally:
            await reader.close()

    with event_log(broker) as log:
        options = ReaderOptions(
            client=client_options(log.settings.kafka, broker),
            topic=log.topic,
            group=f"{log.settings.topics.prefix}g",
            start=Beginning(),
        )
        asyncio.run(asyncio.wait_for(read(), SOON_S))
