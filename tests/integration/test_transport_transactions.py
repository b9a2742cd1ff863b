"""Transactions of one partition: nothing of a failed one shows, and a zombie is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from aiokafka.errors import KafkaError

from pipeline.core.batch import Output, OutRecord, TopicPartition
from pipeline.core.topics import MAX_MESSAGE_BYTES
from pipeline.kit.transactions import CLIENT_FAILURES, Committed, OutputTooLargeError
from tests.kit.engine import Place, committed, leave_open, transactional, working
from tests.kit.steps import until

pytestmark = pytest.mark.integration


def _output(place: Place, value: bytes) -> Output:
    return Output(place.names.of("events"), 0, [OutRecord(value)])


def test_a_transaction_that_is_not_committed_leaves_no_trace(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        broken, healthy = transactional(place), transactional(place)
        await broken.fence()
        await leave_open(broken, [_output(place, b"never")])
        try:
            await healthy.fence()
            prepared = healthy.prepare([_output(place, b"once")], 1)
            await healthy.commit(prepared, committed(place, 1))
        finally:
            await healthy.close()
        assert await place.read("events") == ["once"]

    asyncio.run(scenario())


def test_a_zombie_is_refused(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        zombie, successor = transactional(place), transactional(place)
        try:
            await zombie.fence()
            await successor.fence()
            prepared = zombie.prepare([_output(place, b"twice")], 1)
            with pytest.raises(CLIENT_FAILURES):
                await zombie.commit(prepared, committed(place, 7))
            prepared = successor.prepare([_output(place, b"once")], 1)
            await successor.commit(prepared, committed(place, 7))
        finally:
            await zombie.close()
            await successor.close()
        assert await place.read("events") == ["once"]

    asyncio.run(scenario())


def test_an_output_that_no_topic_takes_is_refused_before_anything_is_written(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        producer = transactional(place)
        try:
            await producer.fence()
            with pytest.raises(OutputTooLargeError):
                producer.prepare([_output(place, bytes(MAX_MESSAGE_BYTES))], 1)
            large = producer.prepare([_output(place, bytes(6 << 20)), _output(place, b"x")], 1)
            await producer.commit(large, committed(place, 1))
        finally:
            await producer.close()
        assert [len(value) for value in await place.read("events")] == [6 << 20, 1]

    asyncio.run(scenario())


def test_an_engine_whose_id_was_taken_takes_it_back_and_loses_nothing(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        ids = [f"a-{number}" for number in range(600)]
        thief = transactional(place)
        async with working(place, heartbeat_ms=200) as worker:
            await until(lambda: worker.ready)
            await place.write(ids[:200])
            await until(lambda: worker.fold.total == 200)
            with suppress(KafkaError):
                await thief.fence()
            await place.write(ids[200:])
            await until(lambda: worker.fold.total == 600)
            assert worker.stats.transactions_failed == 1
            assert max(worker.source.opened.values()) == 1  # nobody else had committed
            await until(lambda: worker.ready)
        await thief.close()
        assert Counter(await place.read("events")) == Counter(ids)

    asyncio.run(scenario())


def test_an_engine_that_finds_a_strangers_commit_begins_anew(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        stolen = TopicPartition(place.names.of("raw.zonemta"), 0)
        thief = transactional(place)
        async with working(place, heartbeat_ms=200) as worker:
            await until(lambda: worker.ready)
            await place.write(["a-1", "a-2"], sources=["raw.zonemta"])
            await until(lambda: worker.fold.total == 2)
            await thief.fence()
            await thief.commit([], {stolen: Committed(1, "a stranger")})
            await place.write(["a-3", "a-4"], sources=["raw.zonemta"])
            await until(lambda: worker.fold.total == 4 and worker.ready)
            assert worker.source.opened[stolen] == 2
            assert worker.source.warmed[stolen] == 1
        await thief.close()
        assert Counter(await place.read("events")) == Counter(["a-1", "a-2", "a-3", "a-4"])

    asyncio.run(scenario())
