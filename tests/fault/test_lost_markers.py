"""The only broker is killed while a transaction is open: it forgets to write how that ended."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError

from pipeline.core.batch import Output, OutRecord
from pipeline.kit.admin_requests import DescribeTransactionsRequest
from tests.kit.engine import PARTITIONS, Place, committed, leave_open, transactional, working
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.steps import until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

TIMEOUT_MS = 1000


def _output(place: Place, value: bytes) -> Output:
    return Output(place.names.of("events"), 0, [OutRecord(value)])


def test_what_was_open_when_the_broker_was_killed_never_shows(kafka: OwnBroker) -> None:
    place = Place(kafka.bootstrap)

    async def break_off() -> None:
        await place.create()
        broken = transactional(place, timeout_ms=TIMEOUT_MS)
        await broken.fence()
        await leave_open(broken, [_output(place, b"never")])

    async def go_on() -> None:
        healthy = transactional(place, timeout_ms=TIMEOUT_MS)
        await healthy.fence()
        try:
            prepared = healthy.prepare([_output(place, b"once")], 1)
            await healthy.commit(prepared, committed(place, 1))
        finally:
            await healthy.close()
        assert await place.read("events") == ["once"]

    asyncio.run(break_off())
    kafka.kill()
    # Its time is up when the broker comes back: the coordinator aborts it before there are leaders.
    until = time.monotonic() + TIMEOUT_MS / 1000
    wait_until(lambda: time.monotonic() > until, "the transaction times out", within_s=10)
    kafka.start()
    asyncio.run(go_on())


def test_partitions_at_rest_are_taken_again_after_the_broker_was_killed(kafka: OwnBroker) -> None:
    async def scenario() -> None:
        place = Place(kafka.bootstrap)
        await place.create()
        ids = [f"a-{number}" for number in range(200)]
        async with working(place, heartbeat_ms=200) as worker:
            await until(lambda: worker.ready)
            await place.write(ids[:100])
            await until(lambda: worker.fold.total == 100)
            before = await _epochs(place)
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(kafka.start)
            await until_epochs_grow(place, before)
            await place.write(ids[100:])
            await until(lambda: worker.fold.total == 200 and worker.ready)
        assert Counter(await place.read("events")) == Counter(ids)

    asyncio.run(scenario())


async def until_epochs_grow(place: Place, before: dict[str, tuple[int, int]]) -> None:
    """Wait until every transactional id of *before* was taken once more."""
    async with asyncio.timeout(60):
        while True:
            now = await _epochs(place)
            if all(now[name] > epoch for name, epoch in before.items()):
                return
            await asyncio.sleep(0.2)


async def _epochs(place: Place) -> dict[str, tuple[int, int]]:
    """Return producer id and epoch of the engine's transactional ids."""
    found = {}
    client = AIOKafkaClient(bootstrap_servers=place.bootstrap)
    await client.bootstrap()
    try:
        for topic in place.sources:
            for partition in range(PARTITIONS):
                name = place.names.transactional_id(topic, partition)
                answer = await _described(client, name)
                found[name] = answer[5], answer[6]
    finally:
        await client.close()
    return found


async def _described(client: Any, name: str) -> Any:
    while True:
        try:
            node = await client.coordinator_lookup(CoordinationType.TRANSACTION, name)
            answer = (await client.send(node, DescribeTransactionsRequest(name))).states[0]
        except KafkaError:
            answer = [1]
        if answer[0] == 0:
            return answer
        await asyncio.sleep(0.1)
