"""The only broker is killed while a transaction is open: it forgets to write how that ended."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError

from pipeline.core.batch import Output, OutRecord, TopicPartition
from pipeline.core.pane import HOUR_MS
from pipeline.transport.admin_requests import DescribeTransactionsRequest
from pipeline.transport.mark import Committed
from pipeline.transport.options import EngineOptions
from pipeline.transport.transaction import PartitionProducer
from tests.kit.engine import PARTITIONS, Place, working
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.steps import until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

TIMEOUT_S = 1.0


def _producer(place: Place) -> PartitionProducer:
    options = EngineOptions(
        client={"bootstrap_servers": place.bootstrap},
        commit_interval_ms=100,
        fold_horizon_ms=HOUR_MS,
        seen_horizon_ms=HOUR_MS,
        transaction_timeout_ms=int(TIMEOUT_S * 1000),
    )
    names = place.names
    return PartitionProducer(f"{names.app_id}-0", names.app_id, names.outputs, options)


def _output(place: Place, value: bytes) -> Output:
    return Output(place.names.of("events"), 0, [OutRecord(value)])


def test_what_was_open_when_the_broker_was_killed_never_shows(kafka: OwnBroker) -> None:
    place = Place(kafka.bootstrap)

    async def leave_open() -> None:
        await place.create()
        broken = _producer(place)
        await broken.fence()
        await broken._producer.begin_transaction()
        for topic, partition, batch in broken.prepare([_output(place, b"never")], 1):
            await (await broken._producer.send_batch(batch, topic, partition=partition))
        await broken.close()

    async def go_on() -> None:
        healthy = _producer(place)
        await healthy.fence()
        try:
            prepared = healthy.prepare([_output(place, b"once")], 1)
            source = TopicPartition(place.names.of("raw.zonemta"), 0)
            await healthy.commit(prepared, source, Committed(1, ""))
        finally:
            await healthy.close()
        assert await place.read("events") == ["once"]

    asyncio.run(leave_open())
    kafka.kill()
    # Its time is up when the broker comes back: the coordinator aborts it before there are leaders.
    until = time.monotonic() + TIMEOUT_S
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
