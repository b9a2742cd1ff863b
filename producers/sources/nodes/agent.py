"""The node agent as a process: what to look at, where it goes, and how it is shown."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry

from pipeline.core.errors import ConfigError
from pipeline.kit import service
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import Settings
from pipeline.kit.settings_nodes import NodesSettings
from pipeline.kit.telemetry import ComponentMetrics
from producers.appender import Appender
from producers.monitor import OK, Monitor
from producers.node_records import TOPIC
from producers.sources.nodes.board import Board
from producers.sources.nodes.folders import Folders
from producers.sources.nodes.mongodb import Mongodb
from producers.sources.nodes.outbox import Lost, Outbox
from producers.sources.nodes.polling import Poller, Target
from producers.sources.nodes.processes import Processes
from producers.sources.nodes.redis_info import RedisServer
from producers.sources.nodes.sinks import IngestSink, KafkaSink
from producers.sources.nodes.system import System
from producers.sources.nodes.wildduck import Wildduck
from producers.sources.nodes.zonemta import Zonemta

NAME: Final = "nodes"
_BUFFER_BYTES: Final = 16 << 20


def targets(settings: Settings, agent: NodesSettings, node: str) -> list[Target]:
    """Return everything that is configured, this machine being *node*.

    Raises:
        ConfigError: A certificate or connection string cannot be used.
    """
    found: list[Target] = []
    if agent.system:
        found.append(System(node, agent.system_interval))
    if agent.processes:
        found.append(Processes(agent.processes, node, agent.system_interval))
    if agent.folders:
        found.append(Folders(agent.folders, node, agent.system_interval))
    found += [Mongodb(one, one.name or node) for one in agent.mongodb]
    found += [RedisServer(one, one.name or node) for one in agent.redis]
    found += [Wildduck(one, one.name or node) for one in agent.wildduck]
    found += [Zonemta(one) for one in settings.zonemta.nodes] if settings.zonemta else []
    return found


async def serve(settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Look at what is configured until told to stop; no Kafka is needed with ``nodes.post_to``."""
    agent = settings.node_agent
    if agent is None:
        raise ConfigError(["nodes: expected this section, or zonemta, as the agent is to run"])
    node = agent.name or socket.gethostname()
    registry = CollectorRegistry()
    component = ComponentMetrics(registry, NAME, Lost)
    sender, sink = _sink(settings, agent, node, bootstrap, clock)
    outbox = Outbox(node, sink, component, registry, clock, most=agent.buffer_observations)
    board = Board(registry)
    looked_at = targets(settings, agent, node)
    poller = Poller(looked_at, board, outbox, component, clock)

    def health() -> Mapping[str, Any]:
        down = [
            {"source": place.source, "origin": place.origin, "detail": why}
            for place, why in board.down.items()
        ]
        return {
            "status": OK if outbox.trouble is None else "unavailable",
            "detail": outbox.trouble,
            "buffered": outbox.buffered,
            "targets": len(looked_at),
            "down": down,
        }

    monitor = Monitor(settings, NAME, agent, registry, health)
    await service.serve([monitor, sender, outbox, poller])


def _sink(
    settings: Settings, agent: NodesSettings, node: str, bootstrap: str, clock: Clock
) -> tuple[service.Part, IngestSink | KafkaSink]:
    """Return the part that connects, and what sends through it."""
    if agent.post_to is not None:
        sink = IngestSink(agent.post_to)
        return sink, sink
    topics = settings.topics
    appender = Appender(
        client_options(settings.kafka, bootstrap),
        [topics.names.of(TOPIC)],
        topics.partitions,
        clock,
        buffer_bytes=_BUFFER_BYTES,
    )
    return appender, KafkaSink(appender, topics, node, clock)
