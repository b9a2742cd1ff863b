"""Topics on a real broker: created once, kept as declared, refused when they cannot fit."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import uuid

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.core.errors import ConfigError, TransientError
from pipeline.core.topics import TOPIC, TOPICS
from pipeline.kit.settings import Settings, TopicSettings
from pipeline.kit.topic_admin import TopicDescription, create_topics, describe_topics
from tests.kit.kafka_admin import admin_of

pytestmark = pytest.mark.integration


def settings_of(prefix: str, **topics: object) -> Settings:
    return Settings(topics=TopicSettings.model_validate({"prefix": prefix, **topics}))


def described(settings: Settings, bootstrap: str) -> dict[str, TopicDescription]:
    rows = asyncio.run(describe_topics(settings, bootstrap))
    return {row.name.removeprefix(settings.topics.prefix): row for row in rows}


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex}."


def test_topics_are_created_as_declared_and_creating_again_changes_nothing(
    broker: str, prefix: str
) -> None:
    settings = settings_of(prefix, partitions=3)
    assert all(row.partitions == 0 for row in described(settings, broker).values())
    asyncio.run(create_topics(settings, broker))
    first = described(settings, broker)
    assert list(first) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        assert first[topic.name].partitions == 3
        assert first[topic.name].replication_factor == 1
        kept_ms = None if topic.compacted else settings.retention_ms(topic)
        assert first[topic.name].retention_ms == kept_ms
        assert first[topic.name].retention_bytes is None
        assert first[topic.name].records == 0
    asyncio.run(create_topics(settings, broker))
    assert described(settings, broker) == first


def test_several_processes_may_create_at_once(broker: str, prefix: str) -> None:
    settings = settings_of(prefix, partitions=2)

    async def race() -> None:
        await asyncio.gather(*(create_topics(settings, broker) for _ in range(4)))

    asyncio.run(race())
    assert all(row.partitions == 2 for row in described(settings, broker).values())


def test_existing_topics_get_the_configured_retention(broker: str, prefix: str) -> None:
    asyncio.run(create_topics(settings_of(prefix, partitions=1), broker))
    changed = settings_of(
        prefix,
        partitions=1,
        retention={"raw": 3_600_000, "events": 7_200_000},
        retention_bytes={"raw": 1 << 30},
    )
    asyncio.run(create_topics(changed, broker))
    rows = described(changed, broker)
    assert rows["raw.zonemta"].retention_ms == rows["raw.haraka"].retention_ms == 3_600_000
    assert rows["raw.zonemta"].retention_bytes == 1 << 30
    assert rows["events"].retention_ms == 7_200_000
    assert rows["dead"].retention_bytes is None


def test_another_number_of_partitions_is_an_error_that_names_the_way_out(
    broker: str, prefix: str
) -> None:
    asyncio.run(create_topics(settings_of(prefix, partitions=2), broker))
    with pytest.raises(ConfigError) as caught:
        asyncio.run(create_topics(settings_of(prefix, partitions=4), broker))
    assert len(caught.value.mistakes) == len(TOPICS)
    assert f"{prefix}events has 2 partitions, expected 4" in str(caught.value)
    assert "replay" in str(caught.value)


def test_more_copies_than_brokers_is_a_configuration_error(broker: str, prefix: str) -> None:
    with pytest.raises(ConfigError, match="InvalidReplicationFactor"):
        asyncio.run(create_topics(settings_of(prefix, replication_factor=9), broker))


def test_a_broker_that_is_away_is_named_in_one_sentence() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(TransientError) as caught:
            asyncio.run(describe_topics(Settings(), address))
    assert str(caught.value).startswith(f"Kafka at {address} does not answer: ")


class OldBroker:
    """Says, in Kafka's protocol, that it takes what Kafka 3.9 takes."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                # ApiVersions v0: no error, an array of 2: Fetch from 0 on, ApiVersions 0
                versions = struct.pack(">hi", 0, 2)
                versions += struct.pack(">hhh", 1, 0, 17) + struct.pack(">hhh", 18, 0, 0)
                reply = request[4:8] + versions  # the correlation id comes back first
                writer.write(struct.pack(">i", len(reply)) + reply)
        writer.close()
        await writer.wait_closed()
        self.left.set()


def test_a_broker_older_than_4_0_is_refused() -> None:
    async def scenario() -> None:
        old = OldBroker()
        server = await asyncio.start_server(old.answer, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            with pytest.raises(ConfigError, match=r"is older than Kafka 4\.0"):
                await create_topics(Settings(), f"{host}:{port}")
            await old.left.wait()

    asyncio.run(scenario())


async def config_of(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {entry[0]: entry[1] for entry in answer.resources[0][4]}


def test_what_others_have_set_on_a_topic_stays(broker: str, prefix: str) -> None:
    settings = settings_of(prefix, partitions=1)
    name = settings.topics.names.of("events")

    async def scenario() -> dict[str, str]:
        await create_topics(settings, broker)
        async with admin_of(broker) as admin:
            theirs = {"compression.type": "zstd", "retention.ms": "1000"}
            resource = ConfigResource(ConfigResourceType.TOPIC, name, theirs)
            await admin.alter_configs([resource])
            while (await config_of(admin, name))["retention.ms"] != "1000":
                pass  # acknowledged is not yet shown
            await create_topics(settings, broker)
            return await config_of(admin, name)

    config = asyncio.run(scenario())
    assert config["compression.type"] == "zstd"
    assert config["retention.ms"] == str(settings.retention_ms(TOPIC["events"]))
