"""The outbox: memory first, disk while Kafka is away, in order, and nothing twice that was not in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from pipeline.core.batch import Output, OutRecord
from pipeline.core.errors import Backpressure
from pipeline.kit.clock import SystemClock
from producers.appender import Appender
from producers.outbox import Outbox
from producers.spool import Spool

MEMORY = 1000


class Kafka(Appender):
    """An appender whose far side is there, away, or silent, as a test says."""

    def __init__(self) -> None:
        super().__init__({}, ["t"], 1, SystemClock(), buffer_bytes=1 << 20)
        self.written: list[bytes] = []
        self.away = False
        self.silent = False
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def append(self, outputs: Sequence[Output]) -> None:
        self.asked.set()
        if self.silent:
            await self.answer.wait()
        if self.away:
            raise Backpressure("away")
        self.written += [record.value for output in outputs for record in output.records]


class Stage:
    """An outbox that runs, and what it was told."""

    def __init__(self, folder: Path, limit: int = 1 << 20) -> None:
        self.kafka = Kafka()
        self.spool = Spool(folder, limit)
        self.sent = self.dropped = 0
        self.moved = asyncio.Event()
        self.outbox = Outbox(
            self.kafka,
            self.spool,
            "t",
            1,
            SystemClock(),
            memory_bytes=MEMORY,
            sent=self._count_sent,
            dropped=self._count_dropped,
        )

    def _count_sent(self, number: int) -> None:
        self.sent += number
        self.moved.set()

    def _count_dropped(self, number: int) -> None:
        self.dropped += number

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.outbox.start()
        task = asyncio.create_task(self.outbox.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.outbox.stop()

    async def until_sent(self, number: int) -> None:
        async with asyncio.timeout(30):
            while self.sent < number:
                self.moved.clear()
                await self.moved.wait()


def values(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def records(first: int, end: int) -> list[OutRecord]:
    return [OutRecord(value, value, [("id", value)]) for value in values(first, end)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_records_go_straight_to_kafka_while_it_is_there(folder: Path) -> None:
    async def scenario() -> None:
        stage = Stage(folder)
        async with stage.running():
            stage.outbox.put(records(0, 3))
            await stage.until_sent(3)
            stage.outbox.put(records(3, 5))
            await stage.until_sent(5)
            assert not stage.spool
            assert stage.outbox.held_bytes == 0
        assert stage.kafka.written == values(0, 5)

    asyncio.run(scenario())


def test_what_is_refused_is_spooled_and_drained_in_order(folder: Path) -> None:
    async def scenario() -> None:
        stage = Stage(folder)
        stage.kafka.away = True
        async with stage.running():
            stage.outbox.put(records(0, 3))
            await stage.kafka.asked.wait()
            stage.outbox.put(records(3, 5))
            stage.kafka.away = False
            await stage.until_sent(5)
        assert stage.kafka.written == values(0, 5)
        assert stage.dropped == 0

    asyncio.run(scenario())


def test_when_memory_is_full_all_of_it_goes_to_disk_what_is_on_its_way_too(folder: Path) -> None:
    async def scenario() -> None:
        stage = Stage(folder)
        stage.kafka.silent = True
        async with stage.running():
            stage.outbox.put(records(0, 3))
            await stage.kafka.asked.wait()
            stage.outbox.put(records(3, 500))
            assert stage.outbox.held_bytes == 0
            assert stage.spool.records == 500
            stage.kafka.silent = False
            stage.kafka.answer.set()
            await stage.until_sent(500)
        assert stage.kafka.written == [*values(0, 3), *values(0, 500)]  # known by their ids
        assert stage.sent == 500

    asyncio.run(scenario())


def test_what_has_no_room_on_disk_is_counted(folder: Path) -> None:
    async def scenario() -> None:
        stage = Stage(folder, limit=1000)
        stage.kafka.away = True
        async with stage.running():
            stage.outbox.put(records(0, 500))
            assert stage.dropped + stage.spool.records == 500
            assert stage.dropped > 0

    asyncio.run(scenario())


def test_a_stop_leaves_on_disk_what_kafka_did_not_take_for_the_next_start(folder: Path) -> None:
    async def scenario() -> None:
        stage = Stage(folder)
        stage.kafka.silent = True
        async with stage.running():
            stage.outbox.put(records(0, 3))
            await stage.kafka.asked.wait()
            stage.outbox.put(records(3, 5))
            stage.kafka.silent, stage.kafka.away = False, True
        again = Stage(folder)
        async with again.running():
            await again.until_sent(5)
        assert again.kafka.written == values(0, 5)

    asyncio.run(scenario())
