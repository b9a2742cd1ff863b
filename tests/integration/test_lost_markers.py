"""Transactions whose markers Kafka lost are ended as they were decided, before the id is used again.

The broker here takes records of a partition that was never added to the transaction, so that its
coordinator ends the transaction without a marker there: what it also does, by mistake, to
partitions that have no leader at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.core.batch import Output, OutRecord
from pipeline.kit.lost_markers import OFFSETS_TOPIC, offsets_partition
from pipeline.kit.transactions import TransactionalProducer
from tests.kit.engine import Place, committed, leave_open, transactional
from tests.kit.kafka_admin import admin_of
from tests.kit.own_broker import own_broker

pytestmark = pytest.mark.integration

WRITTEN = ("events", "seen", "dead")


@pytest.fixture(scope="module")
def trusting() -> Iterator[str]:
    """Return the address of a broker that does not verify what belongs to a transaction."""
    with own_broker() as kafka:
        asyncio.run(_trust(kafka.bootstrap))
        yield kafka.bootstrap


async def _trust(bootstrap: str) -> None:
    async with admin_of(bootstrap) as admin:
        settings = {"transaction.partition.verification.enable": "false"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", settings)])


def _outputs(place: Place, value: bytes) -> list[Output]:
    return [Output(place.names.of(topic), 0, [OutRecord(value)]) for topic in WRITTEN]


async def _commit(place: Place, producer: TransactionalProducer, value: bytes, offset: int) -> None:
    prepared = producer.prepare(_outputs(place, value), 1)
    await producer.commit(prepared, committed(place, offset))


async def _write_behind_the_coordinator(
    place: Place, producer: TransactionalProducer, value: bytes
) -> Any:
    """Write outputs in a transaction of whose partitions the coordinator knows nothing."""
    client = producer._producer
    await client.begin_transaction()
    for topic, partition, batch in producer.prepare(_outputs(place, value), 1):
        client._txn_manager._txn_partitions.add(KafkaPartition(topic, partition))
        await (await client.send_batch(batch, topic, partition=partition))
    return client


@pytest.mark.parametrize(
    ("ended", "expected"),
    [("committed", ["first", "lost", "next"]), ("aborted", ["first", "next"])],
)
def test_a_transaction_is_ended_as_it_was_decided(
    trusting: str, ended: str, expected: list[str]
) -> None:
    async def scenario() -> None:
        place = Place(trusting)
        await place.create()
        broken, healthy = transactional(place), transactional(place)
        assert await broken.fence() == 0
        await _commit(place, broken, b"first", 1)
        for topic in WRITTEN:  # its own markers are written after the commit is answered
            assert await place.read(topic) == ["first"]
        client = await _write_behind_the_coordinator(place, broken, b"lost")
        offsets = {KafkaPartition(place.sources[0], 0): 2}
        await client.send_offsets_to_transaction(offsets, place.names.app_id)
        await (client.commit_transaction() if ended == "committed" else client.abort_transaction())
        await broken.close()
        try:
            assert await healthy.fence() == 3
            await _commit(place, healthy, b"next", 3)
        finally:
            await healthy.close()
        for topic in WRITTEN:
            assert await place.read(topic) == expected

    asyncio.run(scenario())


def test_what_was_open_when_the_id_is_taken_is_aborted_and_nothing_is_left_to_mend(
    trusting: str,
) -> None:
    async def scenario() -> None:
        place = Place(trusting)
        await place.create()
        broken, healthy = transactional(place), transactional(place)
        await broken.fence()
        await _commit(place, broken, b"first", 1)
        await leave_open(broken, _outputs(place, b"never"))
        try:
            assert await healthy.fence() == 0
            await _commit(place, healthy, b"next", 2)
        finally:
            await healthy.close()
        assert await place.read("events") == ["first", "next"]

    asyncio.run(scenario())


def test_the_partition_of_a_group_s_offsets_is_where_kafka_keeps_them(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        groups = [f"{place.names.prefix}{'x' * number}" for number in range(12)]
        for group in groups:
            await _commit_offset(place, group)
        partitions, found = await _where_offsets_are(broker, groups)
        assert found == {group: offsets_partition(group, partitions) for group in groups}

    asyncio.run(scenario())


async def _commit_offset(place: Place, group: str) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=place.bootstrap, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        partition = KafkaPartition(place.sources[0], 0)
        consumer.assign([partition])
        await consumer.commit({partition: 1})
    finally:
        await consumer.stop()


async def _where_offsets_are(bootstrap: str, groups: list[str]) -> tuple[int, dict[str, int]]:
    """Return how many partitions the offsets topic has, and which one holds each group."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    found: dict[str, int] = {}
    try:
        await consumer._client.set_topics([OFFSETS_TOPIC])
        numbers = sorted(consumer.partitions_for_topic(OFFSETS_TOPIC))
        partitions = [KafkaPartition(OFFSETS_TOPIC, number) for number in numbers]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while len(found) < len(groups):
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                keys = b"".join(record.key for record in records)
                for group in groups:
                    if len(group).to_bytes(2, "big") + group.encode() in keys:
                        found[group] = partition.partition
    finally:
        await consumer.stop()
    return len(numbers), found
