"""The cPanel poller's process: one poller per server, and their figures at ``/metrics``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry

from pipeline.core.errors import ConfigError
from pipeline.kit import service
from pipeline.kit.clock import Clock
from pipeline.kit.connections import heed_closed_connections
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import Settings
from pipeline.kit.transactions import TransactionOptions
from producers.monitor import OK, Monitor
from producers.privacy_rules import privacy_rules
from producers.sources.cpanel.client import WhmClient, client_tls
from producers.sources.cpanel.exporter import Exporter
from producers.sources.cpanel.journal import Journals
from producers.sources.cpanel.metrics import PollerMetrics
from producers.sources.cpanel.poller import ServerPoller
from producers.sources.cpanel.rows import SOURCE

NAME: Final = "cpanel"


class Pollers:
    """All pollers, as one part of the process."""

    name = "pollers"

    def __init__(self, pollers: Sequence[ServerPoller], journals: Journals) -> None:
        """Run *pollers*, which write to *journals*."""
        self._pollers = pollers
        self._journals = journals

    async def start(self) -> None:
        """Begin nothing: servers and Kafka may be away."""

    async def run(self) -> None:
        """Poll all servers at the same time until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for poller in self._pollers:
                tasks.create_task(poller.run(), name=poller.name)

    async def stop(self) -> None:
        """Close every connection; a transaction that is open is abandoned, and its rows asked again."""
        await asyncio.gather(*(poller.close() for poller in self._pollers))
        await self._journals.stop()

    def health(self) -> Mapping[str, Any]:
        """Return the answer of ``/health``: unavailable if no server at all could be polled."""
        troubles = {one.name: one.trouble for one in self._pollers if one.trouble is not None}
        working = len(troubles) < len(self._pollers)
        return {"status": OK if working else "unavailable", "troubles": troubles}


async def serve(settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Poll the configured servers until told to stop."""
    if not settings.cpanel.servers:
        raise ConfigError(["cpanel.servers: expected at least one server"])
    heed_closed_connections()
    registry = CollectorRegistry()
    pollers = pollers_of(settings, bootstrap, clock, registry)
    monitor = Monitor(settings, NAME, settings.cpanel, registry, pollers.health)
    await service.serve([monitor, pollers])


def pollers_of(
    settings: Settings, bootstrap: str, clock: Clock, registry: CollectorRegistry
) -> Pollers:
    """Return the pollers of all configured servers; they count in *registry*.

    Raises:
        ConfigError: A certificate, or the key of the privacy hashes, cannot be used.
    """
    cpanel = settings.cpanel
    metrics = PollerMetrics(registry, [server.name for server in cpanel.servers])
    exporter = Exporter(cpanel, clock)
    registry.register(exporter)
    privacy = privacy_rules(settings, SOURCE)
    journals = Journals(
        settings.topics.names,
        settings.topics.partitions,
        TransactionOptions(client=client_options(settings.kafka, bootstrap)),
        clock,
        metrics.mended,
    )
    trust = {
        (server.ca_file, server.verify): client_tls(server.ca_file, verify=server.verify)
        for server in cpanel.servers
    }
    pollers = [
        ServerPoller(
            server,
            WhmClient(server, trust[server.ca_file, server.verify]),
            journals.journal(server.name),
            privacy,
            metrics,
            exporter,
            clock,
            cpanel.max_users,
        )
        for server in cpanel.servers
    ]
    return Pollers(pollers, journals)
