"""The publisher by itself, on frames that were written for it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from pipeline.core.batch import TopicPartition
from pipeline.core.engine_stats import EngineStats
from pipeline.core.publication import PUBLISHED_MS, FamilyPanes, PaneRows, encode_panes
from pipeline.core.rollup import PANES_TIER, Cut
from pipeline.core.topics import TopicNames
from pipeline.kit.clock import SystemClock
from pipeline.kit.transactions import Committed
from pipeline.transport import publisher
from pipeline.transport.options import EngineOptions
from pipeline.transport.publisher import Publisher
from tests.kit.kafka_admin import admin_of
from tests.kit.kafka_read import Read, read_topics
from tests.kit.steps import until

pytestmark = pytest.mark.integration

VERSION_2 = "pane frame of version 2"
START = 1_700_000_100_000 // PUBLISHED_MS * PUBLISHED_MS


class Group:
    """What the group has committed, asked of Kafka."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._bootstrap, self._name = bootstrap, name

    async def committed(self, tp: TopicPartition) -> Committed | None:
        async with admin_of(self._bootstrap) as admin:
            found = (await admin.list_consumer_group_offsets(self._name)).get(KafkaPartition(*tp))
        if found is None or found.offset < 0:
            return None
        return Committed(found.offset, found.metadata or "")


class Place:
    """Topics of one partition under a prefix of their own."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.names = TopicNames(f"t{uuid.uuid4().hex[:12]}.")
        self.group = Group(bootstrap, self.names.app_id)
        self.stats = EngineStats(10_000)

    async def create(self) -> None:
        async with admin_of(self.bootstrap) as admin:
            topics = [self.names.of("rollups"), self.names.of("panes")]
            await admin.create_topics([NewTopic(topic, 1, 1) for topic in topics])

    async def write(self, frames: Sequence[bytes], token: str) -> None:
        """Write frames as one roll-up, with a frame of a window before each."""
        cut = Cut("s", "e", token, {PANES_TIER: START})
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        await producer.start()
        try:
            topic = self.names.of("rollups")
            for value in frames:
                await producer.send_and_wait(topic, b"?", partition=0, headers=cut.headers(60_000))
                headers = cut.headers(PANES_TIER)
                await producer.send_and_wait(topic, value, partition=0, headers=headers)
        finally:
            await producer.stop()

    async def delete_frames(self, before: int) -> None:
        """Delete the oldest roll-ups, as retention does."""
        tp = KafkaPartition(self.names.of("rollups"), 0)
        async with admin_of(self.bootstrap) as admin:
            await admin.delete_records({tp: RecordsToDelete(before)})

    async def end(self) -> int:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            tp = KafkaPartition(self.names.of("rollups"), 0)
            end: int = (await consumer.end_offsets([tp]))[tp]
            return end
        finally:
            await consumer.stop()

    async def panes(self) -> list[Read]:
        return await read_topics(self.bootstrap, [self.names.of("panes")], 1)

    def publisher(self) -> Publisher:
        options = EngineOptions(
            client={"bootstrap_servers": self.bootstrap},
            commit_interval_ms=100,
            fold_horizon_ms=0,
            seen_horizon_ms=0,
        )
        return Publisher(0, self.names, options, self.stats, SystemClock())

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[Publisher]:
        made = self.publisher()
        made.start(self.group)
        try:
            yield made
        finally:
            await made.stop()


def frame(name: str, keys: int) -> bytes:
    """Return a frame with one event of each key."""
    column = np.arange(keys)
    rows = PaneRows.of(
        column,
        column * 0,
        column * 0 + START // PUBLISHED_MS,
        [column * 0 + 1, column * 0, column * 0, column * 0],
    )
    keyed = FamilyPanes("user", [f"{name}-{number}" for number in range(keys)], rows)
    return encode_panes(START, [keyed], partial=False)


def keys_of(panes: Sequence[Read]) -> list[str]:
    return sorted(json.loads(one.value)["key"][0] for one in panes)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make transactions small, and their pace quick."""
    monkeypatch.setattr(publisher, "MOST_RECORDS", 10)
    monkeypatch.setattr(publisher, "SPREAD_S", 0.5)


@pytest.mark.usefixtures("small")
def test_frames_of_any_size_become_records_once_and_restarts_do_not_show(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        sizes = {"a": 3, "b": 4, "c": 35, "d": 7, "e": 1}
        await place.write([frame(name, size) for name, size in sizes.items()], "one")
        while place.stats.panes_published < sum(sizes.values()):  # it dies after each transaction
            before = place.stats.panes_published
            async with place.publishing():
                await until(lambda: place.stats.panes_published > before)  # noqa: B023  of this turn
            # What was on its way when it died is in Kafka, or is not; the cursor knows.
            place.stats.panes_published = len(await place.panes())
        await place.write([frame("f", 2)], "two")
        async with place.publishing() as again:
            again.wake("two")
            await until(lambda: place.stats.panes_published == sum(sizes.values()) + 2)
        wanted = [f"{name}-{n}" for name, size in (sizes | {"f": 2}).items() for n in range(size)]
        assert keys_of(await place.panes()) == sorted(wanted)
        assert place.stats.panes_lost == 0

    asyncio.run(scenario())


@pytest.mark.usefixtures("small")
def test_two_publishers_of_one_partition_fence_each_other_and_double_nothing(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        await place.write([frame(name, 9) for name in "abcdefgh"], "one")
        async with place.publishing(), place.publishing():
            await until(lambda: place.stats.panes_published >= 72)
        assert keys_of(await place.panes()) == sorted(
            f"{c}-{n}" for c in "abcdefgh" for n in range(9)
        )

    asyncio.run(scenario())


def test_what_retention_took_before_it_was_published_is_counted(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        await place.write([frame("a", 1)], "one")
        async with place.publishing():
            await until(lambda: place.stats.panes_published == 1)
        cursor = await place.group.committed(TopicPartition(place.names.of("rollups"), 0))
        assert cursor is not None
        await place.write([frame("gone", 1), frame("gone", 1)], "two")
        beginning = await place.end()
        await place.write([frame("b", 1)], "three")
        await place.delete_frames(beginning)
        async with place.publishing():
            await until(lambda: place.stats.panes_published == 2)
        assert keys_of(await place.panes()) == ["a-0", "b-0"]
        assert place.stats.panes_lost == beginning - cursor.offset == 4

    asyncio.run(scenario())


def test_a_frame_that_cannot_be_read_is_counted_and_passed_over(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        torn = frame("torn", 3)[:-5]
        lying = encode_panes(
            START,
            [FamilyPanes("user", [], PaneRows(b"\0" * 4, b"\0", b"\0" * 4, [b""] * 4))],
            partial=False,
        )
        await place.write([frame("a", 1), torn, lying, b"", frame("b", 1)], "one")
        async with place.publishing():
            await until(lambda: place.stats.panes_published == 2)
        assert keys_of(await place.panes()) == ["a-0", "b-0"]
        assert place.stats.panes_lost == 3

    asyncio.run(scenario())


def test_a_frame_of_a_newer_program_waits_for_it_and_holds_back_only_what_follows(
    broker: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        newer = msgspec.msgpack.encode([2, START, "other fields"])
        await place.write([frame("a", 1), newer, frame("b", 1)], "one")
        async with place.publishing():
            await until(lambda: any(VERSION_2 in str(vars(one)) for one in caplog.records))
        assert keys_of(await place.panes()) == ["a-0"]
        assert place.stats.panes_lost == 0

    asyncio.run(scenario())
