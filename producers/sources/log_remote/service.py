"""The service that takes ZoneMTA's ``log.remote``: its socket, the spool behind it, and how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from pipeline.core.errors import ConfigError, Reason
from pipeline.kit import service
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings
from pipeline.kit.settings_log_remote import LogRemoteSettings
from pipeline.kit.telemetry import ComponentMetrics
from pipeline.kit.values import Address
from producers.datagrams import Datagram, Datagrams
from producers.haul import Haul, HaulMetrics
from producers.monitor import Monitor
from producers.outbox import Outbox
from producers.privacy_rules import privacy_rules
from producers.sources.log_remote.records import FEED, SOURCE, TOPIC, Drop, Noise, RecordMaker
from producers.spooled import Spooled, readable_here

NAME: Final = "log-remote"
REASONS: Final = (*Reason, *Drop)
_NOISE: Final = (
    "mailstream_log_remote_noise_total",
    "Entries of ZoneMTA's log that are no events, by kind; they are not written.",
)


class LogInput:
    """A part of the process: the entries that come."""

    name = "udp"

    def __init__(
        self,
        settings: LogRemoteSettings,
        maker: RecordMaker,
        outbox: Outbox,
        metrics: HaulMetrics,
        registry: CollectorRegistry,
        clock: Clock,
    ) -> None:
        """Take datagrams at ``settings.udp`` and put records into *outbox*."""
        self._maker = maker
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._datagrams = Datagrams(
            settings.udp,
            settings.allow,
            receive_buffer_bytes=settings.receive_buffer_bytes,
            feed=FEED,
            registry=registry,
            take=self._take,
        )

    @property
    def address(self) -> Address:
        """Return where it listens: the configured address until it was started."""
        return self._datagrams.address

    async def start(self) -> None:
        """Begin to receive."""
        await self._datagrams.start()

    async def run(self) -> None:
        """Receive until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take what the kernel still holds, then close."""
        self._datagrams.stop()

    def _take(self, datagrams: Sequence[Datagram], refused: int) -> None:
        received_ms, haul = self._clock.now_ms(), Haul()
        haul.discard(Drop.NOT_ALLOWED, refused)
        for one in datagrams:
            self._maker.take(one.payload, one.address, received_ms, haul)
        self._outbox.put(haul.records)
        self._metrics.count(haul)


async def serve(settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Take entries of ZoneMTA's log until told to stop."""
    feed = settings.log_remote
    if feed is None:
        raise ConfigError(["zonemta.log_remote: expected this section; {} takes its defaults"])
    registry = CollectorRegistry()
    metrics = HaulMetrics(registry, ComponentMetrics(registry, NAME, REASONS), _NOISE, Noise)
    way = Spooled(
        settings,
        bootstrap,
        clock,
        NAME,
        TOPIC,
        metrics.component,
        Drop.SPOOL_FULL,
        buffer_bytes=feed.buffer_bytes,
        spool_bytes=feed.spool_bytes,
    )
    maker = RecordMaker(privacy_rules(settings, SOURCE))
    entries = LogInput(feed, maker, way.outbox, metrics, registry, clock)
    way.show_held(registry, FEED)
    monitor = Monitor(settings, NAME, readable_here(feed), registry, way.health([entries]))
    await service.serve([monitor, way.appender, way.outbox, entries])
