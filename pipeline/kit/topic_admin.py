"""Topics as declared in ``core.topics``: created, brought up to date and described.

Safe to repeat, and safe when several processes do it at once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import ApiVersionRequest

from pipeline.core.errors import ConfigError, TransientError
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.core.topics import MAX_MESSAGE_BYTES, TOPICS, Topic
from pipeline.kit.clock import SystemClock
from pipeline.kit.kafka import client_options, core_error, mapped_errors
from pipeline.kit.retry import Backoff, retry
from pipeline.kit.settings import Settings
from pipeline.kit.values import Address

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_MS: Final = 10_000
_SHORT_RETENTION_MS: Final = 7 * DAY_MS
_KAFKA_SEGMENT_MS: Final = 7 * DAY_MS
_SEGMENT_BYTES: Final = (16 << 20, 1 << 30)
"""Smallest (two of the largest messages) and largest (Kafka's default) segment."""
_FETCH_KEY: Final = 1
_FETCH_MIN_OF_4_0: Final = 4
"""Kafka 4.0 removed Fetch versions 0 to 3 (KIP-896); every 3.x broker still offers 0."""
_TOPIC_LEVEL: Final = 1
"""``DYNAMIC_TOPIC_CONFIG`` in DescribeConfigs: set on the topic itself."""
_EVERY_TOPIC: Final = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
_VISIBLE: Final = Backoff(base_s=0.05, cap_s=0.5, deadline_s=15.0)


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """One declared topic as the cluster has it."""

    name: str
    holds: str
    partitions: int
    """0: the topic does not exist."""
    replication_factor: int
    retention_ms: int | None
    retention_bytes: int | None
    """Per partition; None: no limit."""
    records: int
    """Offsets between beginning and end, transaction markers included."""


async def create_topics(settings: Settings, bootstrap: str) -> None:
    """Create what is missing, and give existing topics the declared configuration.

    Raises:
        ConfigError: A topic has another number of partitions, the broker is older than 4.0 or
            refuses the settings.
        TransientError: The broker does not answer.
    """
    async with _admin(settings, bootstrap) as admin:
        existing = _checked(settings, await _topics(admin))
        names = settings.topics.names
        missing = [topic for topic in TOPICS if names.of(topic.name) not in existing]
        if missing:
            await _create(admin, settings, missing)
        present = [topic for topic in TOPICS if topic not in missing]
        outdated = await _outdated(admin, settings, present)
        if outdated:
            await _update(admin, outdated)

        async def all_visible() -> None:
            # Brokers learn from the controller what it has acknowledged, a moment later.
            found = _checked(settings, await _topics(admin))
            there = len(found) == len(TOPICS) and all(map(_has_leaders, found.values()))
            if not there or await _outdated(admin, settings, TOPICS):
                raise TransientError("the brokers do not show the topics as declared yet")

        await retry(all_visible, clock=SystemClock(), backoff=_VISIBLE, level=logging.DEBUG)


async def describe_topics(settings: Settings, bootstrap: str) -> list[TopicDescription]:
    """Return every declared topic as the cluster has it, in the order of the declaration.

    Raises:
        ConfigError: The broker is older than 4.0 or refuses us.
        TransientError: The broker does not answer.
    """
    async with _admin(settings, bootstrap) as admin:
        existing = _declared(settings, await _topics(admin))
        configs = await _configs(admin, list(existing))
    records = await _records(settings, bootstrap, existing)
    return [_description(settings, topic, existing, configs, records) for topic in TOPICS]


def _description(
    settings: Settings,
    topic: Topic,
    existing: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, tuple[str | None, int]]],
    records: Mapping[str, int],
) -> TopicDescription:
    name = settings.topics.names.of(topic.name)
    found, config = existing.get(name), configs.get(name, {})
    if found is None:
        return TopicDescription(name, topic.holds, 0, 0, None, None, 0)
    copies = min((len(partition["replicas"]) for partition in found["partitions"]), default=0)
    return TopicDescription(
        name=name,
        holds=topic.holds,
        partitions=len(found["partitions"]),
        replication_factor=copies,
        retention_ms=_limit(config, "retention.ms"),
        retention_bytes=_limit(config, "retention.bytes"),
        records=records[name],
    )


def _limit(config: Mapping[str, tuple[str | None, int]], name: str) -> int | None:
    value = int(config[name][0] or -1) if name in config else -1
    return value if value >= 0 else None


def topic_config(settings: Settings, topic: Topic) -> dict[str, str]:
    """Return the Kafka configuration that *topic* must have.

    Of a compacted topic all that is younger than a segment is kept, and read at every start.
    Records go only with a whole closed segment.  Where retention is short (7 days or less)
    segments are an eighth of it, so that at most an eighth more is kept.
    """
    if topic.compacted:
        return {
            "cleanup.policy": "compact",
            "segment.ms": str(HOUR_MS),
            "retention.ms": "-1",
            "retention.bytes": "-1",
            **_EVERY_TOPIC,
            **_durability(settings),
        }
    retention = settings.retention_ms(topic)
    limit = settings.topics.retention_bytes.get(topic.retention_key)
    short = retention <= _SHORT_RETENTION_MS
    smallest, largest = _SEGMENT_BYTES
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(retention),
        "retention.bytes": str(limit if limit is not None else -1),
        "segment.ms": str(max(retention // 8, MINUTE_MS) if short else _KAFKA_SEGMENT_MS),
        "segment.bytes": str(
            largest if limit is None else sorted((smallest, limit // 8, largest))[1]
        ),
        **_EVERY_TOPIC,
        **_durability(settings),
    }


def _durability(settings: Settings) -> dict[str, str]:
    return {"min.insync.replicas": "2" if settings.topics.replication_factor >= 3 else "1"}


@asynccontextmanager
async def _admin(settings: Settings, bootstrap: str) -> AsyncIterator[Any]:
    """Yield a started admin client of a broker that is new enough; errors inside become ours."""
    options = client_options(settings.kafka, bootstrap) | {
        "request_timeout_ms": _REQUEST_TIMEOUT_MS
    }
    with mapped_errors():
        await check_broker(options, bootstrap)
        admin = AIOKafkaAdminClient(**options)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


async def check_broker(options: dict[str, Any], bootstrap: str) -> None:
    """Ask one of the brokers which requests it takes.

    Not by ``AIOKafkaClient``, which logs why a broker refuses us and raises that it is away.

    Raises:
        ConfigError: The broker is older than 4.0, or refuses our credentials.
        TransientError: No broker answers; one sentence with the reason of the last one.
    """
    others = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    reason: Exception | None = None
    for server in map(Address.parse, bootstrap.split(",")):
        try:
            oldest = await _oldest_versions(server, others)
        except (OSError, KafkaConnectionError) as exc:  # TimeoutError and ssl.SSLError are OSErrors
            reason = exc
            continue
        if oldest.get(_FETCH_KEY, 0) < _FETCH_MIN_OF_4_0:
            raise ConfigError(
                [f"kafka.bootstrap_servers: the broker at {server} is older than Kafka 4.0"]
            )
        return
    why = getattr(reason, "strerror", None) or str(reason) or "it took too long"
    raise TransientError(f"Kafka at {bootstrap} does not answer: {why}") from reason


async def _oldest_versions(server: Address, options: dict[str, Any]) -> dict[int, int]:
    """Return the oldest version that *server* takes of each request, by its key."""
    connection = await create_conn(server.host, server.port, **options)
    try:
        answer = await connection.send(ApiVersionRequest())
    finally:
        await connection.close()
    return {key: lowest for key, lowest, _ in answer.api_versions}


async def _topics(admin: Any) -> dict[str, Any]:
    # All topics: to ask for one by name may create it, where brokers auto-create.
    return {found["topic"]: found for found in await admin.describe_topics()}


def _declared(settings: Settings, found: Mapping[str, Any]) -> dict[str, Any]:
    names = [settings.topics.names.of(topic.name) for topic in TOPICS]
    return {name: found[name] for name in names if name in found}


def _checked(settings: Settings, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the declared topics among *found*, all with the declared number of partitions."""
    wanted = settings.topics.partitions
    existing = _declared(settings, found)
    mistakes = [
        f"topics.partitions: {name} has {len(topic['partitions'])} partitions, expected {wanted}; "
        f"set topics.partitions to {len(topic['partitions'])}, or choose another topics.prefix "
        "and replay into it"
        for name, topic in existing.items()
        if topic["partitions"] and len(topic["partitions"]) != wanted
    ]
    if mistakes:
        raise ConfigError(mistakes)
    return {name: topic for name, topic in existing.items() if topic["partitions"]}


def _has_leaders(topic: Mapping[str, Any]) -> bool:
    return all(partition["leader"] >= 0 for partition in topic["partitions"])


async def _create(admin: Any, settings: Settings, topics: list[Topic]) -> None:
    new = [
        NewTopic(
            settings.topics.names.of(topic.name),
            settings.topics.partitions,
            settings.topics.replication_factor,
            topic_configs=topic_config(settings, topic),
        )
        for topic in topics
    ]
    answer = await admin.create_topics(new)
    for name, code, message, *_ in answer.topic_errors:
        error = for_code(code)
        if code and not issubclass(error, TopicAlreadyExistsError):
            raise core_error(error(f"topic {name}: {message}"))
    log.info("topics created", extra={"topics": [topic.name for topic in new]})


async def _outdated(
    admin: Any, settings: Settings, topics: Sequence[Topic]
) -> list[ConfigResource]:
    """Return what must be set on those of *topics* that are not configured as declared.

    aiokafka knows only AlterConfigs, which replaces all that is set on a topic: what others
    have set there is set again.
    """
    by_name = {settings.topics.names.of(topic.name): topic for topic in topics}
    current = await _configs(admin, list(by_name))
    outdated = []
    for name, topic in by_name.items():
        wanted = topic_config(settings, topic)
        if all(current[name].get(key, ("", 0))[0] == value for key, value in wanted.items()):
            continue
        kept = {
            key: value for key, (value, source) in current[name].items() if source == _TOPIC_LEVEL
        }
        outdated.append(ConfigResource(ConfigResourceType.TOPIC, name, kept | wanted))
    return outdated


async def _update(admin: Any, resources: list[ConfigResource]) -> None:
    for answer in await admin.alter_configs(resources):
        for code, message, _, name in answer.resources:
            if code:
                raise core_error(for_code(code)(f"topic {name}: {message}"))
            log.info("topic configuration updated", extra={"topic": name})


async def _configs(admin: Any, names: list[str]) -> dict[str, dict[str, tuple[str | None, int]]]:
    """Return per topic: key to value and source."""
    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: dict[str, dict[str, tuple[str | None, int]]] = {}
    for answer in await admin.describe_configs(asked):
        for code, message, _, name, entries in answer.resources:
            if code:
                raise core_error(for_code(code)(f"topic {name}: {message}"))
            configs[name] = {entry[0]: (entry[1], entry[3]) for entry in entries}
    return configs


async def _records(
    settings: Settings, bootstrap: str, existing: Mapping[str, Any]
) -> dict[str, int]:
    """Return how many offsets each topic spans."""
    partitions = [
        TopicPartition(name, partition["partition"])
        for name, topic in existing.items()
        for partition in topic["partitions"]
    ]
    counts = dict.fromkeys(existing, 0)
    if not partitions:
        return counts
    with mapped_errors():
        consumer = AIOKafkaConsumer(
            **client_options(settings.kafka, bootstrap), request_timeout_ms=_REQUEST_TIMEOUT_MS
        )
        try:
            await consumer.start()
            first = await consumer.beginning_offsets(partitions)
            last = await consumer.end_offsets(partitions)
        finally:
            await consumer.stop()
    for tp in partitions:
        counts[tp.topic] += last[tp] - first[tp]
    return counts
