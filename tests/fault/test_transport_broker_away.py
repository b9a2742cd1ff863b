"""The engine lives through the broker's absence: before the start, while working, while opening."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.kit.engine import Place, working
from tests.kit.own_broker import OwnBroker
from tests.kit.steps import until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

AWAY_S = 8.0


async def _away(kafka: OwnBroker, *, kill: bool = False) -> None:
    await asyncio.to_thread(kafka.kill if kill else kafka.stop)
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(kafka.start)


def test_a_broker_that_stops_and_comes_back_costs_nothing(kafka: OwnBroker) -> None:
    async def scenario() -> None:
        place = Place(kafka.bootstrap)
        await place.create()
        ids = [f"a-{number}" for number in range(900)]
        async with working(place) as worker:
            await until(lambda: worker.ready)
            for turn in range(3):
                await place.write(ids[turn * 300 : turn * 300 + 300])
                await _away(kafka, kill=turn == 1)
                await until(lambda: worker.fold.total == turn * 300 + 300)  # noqa: B023  awaited here
            await until(lambda: worker.ready)
            assert worker.watch is not None
            assert not worker.watch.done()
        assert Counter(await place.read("events")) == Counter(ids)

    asyncio.run(scenario())


def test_a_worker_that_starts_before_the_broker_begins_when_it_is_there(kafka: OwnBroker) -> None:
    async def scenario() -> None:
        place = Place(kafka.bootstrap)
        await place.create()
        await place.write(["a-1", "a-2", "a-3"])
        await asyncio.to_thread(kafka.stop)
        async with working(place) as worker:
            await asyncio.sleep(3.0)
            assert not worker.ready
            await asyncio.to_thread(kafka.start)
            await until(lambda: worker.fold.total == 3 and worker.ready)

    asyncio.run(scenario())


def test_a_worker_can_be_stopped_while_the_broker_is_away(kafka: OwnBroker) -> None:
    async def scenario() -> None:
        place = Place(kafka.bootstrap)
        await place.create()
        async with working(place) as worker:
            await until(lambda: worker.ready)
            await place.write(["a-1", "a-2", "a-3"])
            await until(lambda: worker.fold.total == 3)
            await asyncio.to_thread(kafka.stop)
            await asyncio.wait_for(worker.stop(), 20)

    asyncio.run(scenario())
