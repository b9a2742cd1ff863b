"""Events written straight to ``mail.events``, as the pipeline would."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.core.event import MailEvent, partition_of
from pipeline.kit.settings import KafkaSettings, Settings, TopicSettings
from pipeline.kit.topic_admin import create_topics
from tests.kit.kafka_admin import admin_of

encode = msgspec.json.Encoder().encode


class EventLog:
    """The topics of one prefix, and a writer of enriched events."""

    def __init__(self, bootstrap: str, partitions: int = 2) -> None:
        self.bootstrap, self.partitions = bootstrap, partitions
        self.settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=bootstrap),
            topics=TopicSettings(prefix=f"t{uuid.uuid4().hex[:12]}.", partitions=partitions),
        )
        self.topic = self.settings.topics.names.of("events")

    async def delete(self) -> None:
        """Free the broker's disk."""
        async with admin_of(self.bootstrap) as admin:
            prefix = self.settings.topics.prefix
            await admin.delete_topics(
                [name for name in await admin.list_topics() if name.startswith(prefix)]
            )

    def writer(self, *, transactional: bool = False) -> Writer:
        """Return a writer, to be entered."""
        return Writer(self, transactional=transactional)

    async def write(self, events: Iterable[MailEvent]) -> None:
        """Write *events*; they are in Kafka when this returns."""
        async with self.writer() as writer:
            await writer.write(events)


class Writer:
    """Writes events by their ids, as the pipeline does by their keys."""

    def __init__(self, log: EventLog, *, transactional: bool) -> None:
        self._log = log
        self.producer = AIOKafkaProducer(
            bootstrap_servers=log.bootstrap,
            enable_idempotence=True,
            transactional_id=uuid.uuid4().hex if transactional else None,
            request_timeout_ms=60_000,
        )

    async def __aenter__(self) -> Self:
        await self.producer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.producer.stop()

    async def write(self, events: Iterable[MailEvent]) -> None:
        """Write *events*, each to the partition of its id."""
        await asyncio.gather(
            *[await self.write_value(event.event_id or "", encode(event)) for event in events]
        )

    async def write_value(self, key: str, value: bytes) -> Any:
        """Send one record; what is returned is awaited for its place."""
        partition = partition_of(key.encode(), self._log.partitions)
        return await self.producer.send(
            self._log.topic, value, key=key.encode(), partition=partition
        )


def numbered(first: int, count: int, **fields: Any) -> list[MailEvent]:
    """Return events with the ids ``e<number>``."""
    return [
        MailEvent(event_id=f"e{number}", event_type="delivered", **fields)
        for number in range(first, first + count)
    ]


@contextmanager
def event_log(bootstrap: str, partitions: int = 2) -> Iterator[EventLog]:
    """Yield topics of their own; in the end they are gone."""
    log = EventLog(bootstrap, partitions)
    asyncio.run(create_topics(log.settings, bootstrap))
    try:
        yield log
    finally:
        with suppress(KafkaError):  # a broker that is gone has taken them along
            asyncio.run(log.delete())
