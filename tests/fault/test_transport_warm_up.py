"""A warm-up that has to wait: longer than any request may take, behind another's transaction."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from tests.kit.engine import PARTITIONS, SOURCES, Place, working
from tests.kit.steps import until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

WARM_UP_S = 60.0
IDS = [f"a-{number}" for number in range(400)]


@asynccontextmanager
async def open_transaction(place: Place) -> AsyncIterator[None]:
    """Hold a transaction open on all partitions of the seen topic, and abort it in the end."""
    producer = AIOKafkaProducer(
        bootstrap_servers=place.bootstrap,
        transactional_id=f"other-{uuid.uuid4()}",
        transaction_timeout_ms=300_000,
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for partition in range(PARTITIONS):
            await producer.send_and_wait(place.names.of("seen"), b"never", partition=partition)
        yield
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def _warm_up_behind_a_transaction(place: Place, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        async with working(place) as worker:
            await until(lambda: worker.ready)
            await stack.enter_async_context(open_transaction(place))
            await place.write(IDS)
            await until(lambda: worker.fold.total == len(IDS))
        await place.write(IDS)
        held = asyncio.Event()
        async with working(place) as worker:
            await until(lambda: len(worker.source.opened) == len(SOURCES) * PARTITIONS)
            asyncio.get_running_loop().call_later(seconds, held.set)
            await held.wait()
            assert not worker.ready
            assert worker.stats.transactions == 0
            # The fold waits for nobody.
            assert worker.fold.complete_partitions == set(range(PARTITIONS))
    async with working(place) as worker:
        await until(lambda: worker.ready and worker.stats.transactions > 0)
        await place.write(["b-1"])
        await until(lambda: worker.fold.total == len(IDS) + 1)
    assert Counter(await place.read("events")) == Counter([*IDS, "b-1"])


def test_a_warm_up_waits_for_the_transactions_that_hide_what_was_seen(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        await _warm_up_behind_a_transaction(place, 3.0)

    asyncio.run(scenario())


def test_a_warm_up_of_a_minute_ends_in_a_working_partition(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with AsyncExitStack() as stack:
            async with working(place) as worker:
                await until(lambda: worker.ready)
                await stack.enter_async_context(open_transaction(place))
                await place.write(IDS)
                await until(lambda: worker.fold.total == len(IDS))
            await place.write([*IDS, "b-1"])
            done = asyncio.Event()
            asyncio.get_running_loop().call_later(WARM_UP_S, done.set)
            late = working(place)
            worker = await late.__aenter__()
            await done.wait()
            assert not worker.ready
        try:
            await until(lambda: worker.ready and worker.fold.total == len(IDS) + 1)
            assert worker.stats.rebalances == 1
        finally:
            await late.__aexit__(None, None, None)
        assert Counter(await place.read("events")) == Counter([*IDS, "b-1"])

    asyncio.run(scenario())


def test_a_moved_offset_ends_the_warm_up_too(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with working(place) as worker:
            await until(lambda: worker.ready)
            await place.write(IDS)
            await until(lambda: worker.fold.total == len(IDS))
        await place.move_offsets(17)
        async with working(place) as worker:
            await until(lambda: worker.ready)
            await place.write(["b-1"])
            await until(lambda: worker.fold.total == len(IDS) + 1)

    asyncio.run(scenario())
