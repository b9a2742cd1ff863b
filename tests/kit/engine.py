"""An engine on topics of its own, with small steps, and the log as a plain consumer sees it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import NewTopic
from aiokafka.protocol.admin import DeleteGroupsRequest

from pipeline.core.batch import Output, TopicPartition
from pipeline.core.engine_stats import EngineStats
from pipeline.core.pane import HOUR_MS
from pipeline.core.topics import TopicNames
from pipeline.kit.clock import SystemClock
from pipeline.kit.transactions import Committed, TransactionalProducer, TransactionOptions
from pipeline.transport.engine import Engine
from pipeline.transport.options import FOLD_MARGIN_MS, EngineOptions
from tests.kit.kafka_admin import admin_of
from tests.kit.steps import CopySource, CountFold

PARTITIONS = 2
SOURCES = ("raw.zonemta", "raw.haraka")
TOPICS = (*SOURCES, "events", "deltas", "seen", "dead")


class Place:
    """Fresh topics on the broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.names = TopicNames(f"t{uuid.uuid4().hex[:10]}.")
        self.sources = [self.names.of(topic) for topic in SOURCES]

    async def create(self) -> None:
        async with admin_of(self.bootstrap) as admin:
            config = {"max.message.bytes": str(8 << 20)}
            await admin.create_topics(
                [NewTopic(self.names.of(t), PARTITIONS, 1, topic_configs=config) for t in TOPICS]
            )

    async def write(self, ids: Iterable[str], sources: Sequence[str] = SOURCES) -> None:
        """Spread *ids* over the raw topics and partitions."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        await producer.start()
        try:
            sent = []
            for number, name in enumerate(ids):
                topic = self.names.of(sources[number % len(sources)])
                partition = number // len(sources) % PARTITIONS
                sent.append(await producer.send(topic, name.encode(), partition=partition))
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    async def write_raw(self, topic: str, partition: int, value: bytes) -> None:
        """Write one record outside any transaction."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(topic, value, partition=partition)
        finally:
            await producer.stop()

    async def move_offsets(self, offset: int) -> None:
        """Commit *offset* for all source partitions, as an operator would."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.names.app_id, enable_auto_commit=False
        )
        await consumer.start()
        try:
            partitions = [KafkaPartition(t, p) for t in self.sources for p in range(PARTITIONS)]
            consumer.assign(partitions)
            await consumer.commit(dict.fromkeys(partitions, offset))
        finally:
            await consumer.stop()

    async def forget_offsets(self) -> None:
        """Delete the group with all it committed, as an operator, or a week of absence, would."""
        async with admin_of(self.bootstrap) as admin:
            coordinator = await admin.find_coordinator(self.names.app_id)
            request = DeleteGroupsRequest([self.names.app_id])
            answer: Any = await admin._send_request_to_node(coordinator, request)
            assert answer.results == [(self.names.app_id, 0)]

    async def read(self, topic: str) -> list[str]:
        """Return all values of a topic as a read_committed reader sees them, to its very end.

        An open transaction, or one whose markers are still being written, is waited for.
        """
        partitions = [KafkaPartition(self.names.of(topic), p) for p in range(PARTITIONS)]
        ends = await self._ends(partitions)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            consumer.assign(partitions)
            values: list[str] = []
            for partition in partitions:
                consumer.seek(partition, 0)
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    values += [record.value.decode(errors="replace") for record in records]
            return values
        finally:
            await consumer.stop()

    async def _ends(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            ends: dict[KafkaPartition, int] = await consumer.end_offsets(partitions)
            return ends
        finally:
            await consumer.stop()


def transactional(
    place: Place, topic: str = "raw.zonemta", *, timeout_ms: int = 10_000
) -> TransactionalProducer:
    """Return the producer that an engine would have for partition 0 of *topic*."""
    names = place.names
    options = TransactionOptions(
        client={"bootstrap_servers": place.bootstrap}, timeout_ms=timeout_ms
    )
    transactional_id = names.transactional_id(names.of(topic), 0)
    return TransactionalProducer(transactional_id, names.outputs, options, names.app_id)


def committed(place: Place, offset: int) -> dict[TopicPartition, Committed]:
    """Return the offsets to commit for partition 0 of the first source."""
    return {TopicPartition(place.sources[0], 0): Committed(offset, "")}


async def leave_open(producer: TransactionalProducer, outputs: list[Output]) -> None:
    """Write *outputs* in a transaction that is never ended, and go away."""
    client = producer._producer
    await client.begin_transaction()
    for topic, partition, batch in producer.prepare(outputs, 1):
        await (await client.send_batch(batch, topic, partition=partition))
    await producer.close()


class Worker:
    """One engine with its steps."""

    def __init__(self, place: Place, **options: Any) -> None:
        given: Mapping[str, Any] = {
            "commit_interval_ms": 50,
            "fold_horizon_ms": HOUR_MS + FOLD_MARGIN_MS,
            "seen_horizon_ms": HOUR_MS,
            **options,
        }
        self.options = EngineOptions(client={"bootstrap_servers": place.bootstrap}, **given)
        self.source = CopySource(place.names, PARTITIONS)
        self.fold = CountFold()
        self.stats = EngineStats(self.options.session_timeout_ms)
        self.engine = Engine(
            place.names,
            self.options,
            place.sources,
            place.names.of("deltas"),
            place.names.of("seen"),
            self.source,
            self.fold,
            self.stats,
            SystemClock(),
        )
        self.watch: asyncio.Task[None] | None = None
        self.lose = 0
        """How many of the next source batches get lost before they reach the engine."""

        @self.engine.app.agent(self.engine.source_batches)  # type: ignore[untyped-decorator]  # faust is untyped here
        async def enrich(stream: AsyncIterator[Any]) -> None:
            async for batch in stream:
                if self.lose > 0:
                    self.lose -= 1
                else:
                    await self.engine.process(batch)

        @self.engine.app.agent(self.engine.fold_batches)  # type: ignore[untyped-decorator]  # faust is untyped here
        async def fold(stream: AsyncIterator[Any]) -> None:
            async for batch in stream:
                await self.engine.process(batch)

    async def start(self) -> None:
        await self.engine.start()
        self.watch = asyncio.create_task(self.engine.run())

    async def stop(self) -> None:
        if self.watch is not None:
            self.watch.cancel()
            await asyncio.wait([self.watch])
            self.watch = None
            await self.engine.stop()

    @property
    def ready(self) -> bool:
        return self.engine.is_ready and len(self.stats.partitions) > 0


@asynccontextmanager
async def working(place: Place, **options: Any) -> AsyncIterator[Worker]:
    """Yield a started worker and stop it."""
    worker = Worker(place, **options)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()
