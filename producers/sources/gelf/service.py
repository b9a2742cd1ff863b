"""The GELF service: its sockets, the spool behind the datagrams, and how it is."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry

from pipeline.core.errors import ConfigError
from pipeline.core.gelf import SOURCE
from pipeline.kit import service
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings
from pipeline.kit.telemetry import ComponentMetrics
from producers.gelf.metrics import REASONS, GelfMetrics
from producers.gelf.records import TOPIC, Drop
from producers.gelf.samples import TOPIC as SAMPLES_TOPIC
from producers.gelf.setup import (
    keeper_of,
    record_maker,
    samples_of,
    user_names,
)
from producers.monitor import Monitor
from producers.privacy_rules import privacy_rules
from producers.sources.gelf.tcp import TcpInput
from producers.sources.gelf.udp import UdpInput
from producers.spooled import Spooled, readable_here

NAME: Final = "gelf"


async def serve(settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Take GELF over UDP and TCP until told to stop."""
    gelf = settings.gelf
    if not gelf.is_on:
        raise ConfigError(["gelf.udp, gelf.tcp: expected an address for at least one of them"])
    registry = CollectorRegistry()
    metrics = GelfMetrics(registry, ComponentMetrics(registry, NAME, REASONS))
    way = Spooled(
        settings,
        bootstrap,
        clock,
        NAME,
        TOPIC,
        metrics.component,
        Drop.SPOOL_FULL,
        buffer_bytes=gelf.buffer_bytes,
        spool_bytes=gelf.spool_bytes,
        beside=[SAMPLES_TOPIC],
    )
    names = user_names(settings, registry, clock)
    privacy = privacy_rules(settings, SOURCE)
    keeper = keeper_of(privacy, names)
    samples = samples_of(settings, privacy, way.appender, registry, clock)
    inputs: list[TcpInput | UdpInput] = []
    if gelf.tcp is not None:
        maker = record_maker(settings, keeper, samples, gelf.tcp_host)
        inputs.append(TcpInput(settings, maker, way.appender, metrics, registry, clock))
    if gelf.udp is not None:
        maker = record_maker(settings, keeper, samples, gelf.udp_host)
        inputs.append(UdpInput(gelf, maker, way.outbox, metrics, registry, clock))
    way.show_held(registry, NAME)
    monitor = Monitor(settings, NAME, readable_here(gelf), registry, way.health(inputs))
    beside = [samples] if names is None else [samples, names]
    await service.serve([monitor, way.appender, way.outbox, *beside, *inputs])
