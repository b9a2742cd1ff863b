"""The GELF service: its sockets, the spool behind the datagrams, and how it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from pipeline.core.errors import ConfigError
from pipeline.kit import service
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import Settings
from pipeline.kit.settings_gelf import GelfSettings
from pipeline.kit.telemetry import ComponentMetrics
from producers.appender import Appender
from producers.gelf.metrics import REASONS, GelfMetrics
from producers.gelf.records import TOPIC, Drop
from producers.gelf.samples import TOPIC as SAMPLES_TOPIC
from producers.gelf.setup import (
    keeper_of,
    privacy_rules,
    record_maker,
    samples_of,
    user_names,
)
from producers.monitor import OK, Monitor
from producers.outbox import Outbox
from producers.sources.gelf.tcp import TcpInput
from producers.sources.gelf.udp import UdpInput
from producers.spool import Spool

NAME: Final = "gelf"
_THIS_MACHINE: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


async def serve(settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Take GELF over UDP and TCP until told to stop (SIGTERM, SIGINT).

    Args:
        settings: The whole configuration.
        bootstrap: Where Kafka is; it may be away.
        clock: The machine's.

    Raises:
        ConfigError: The configuration is unusable.
        MailstreamError: An address is taken, the spool cannot be used, or a part failed.
    """
    gelf = settings.gelf
    if not gelf.is_on:
        raise ConfigError(["gelf.udp, gelf.tcp: expected an address for at least one of them"])
    registry = CollectorRegistry()
    metrics = GelfMetrics(registry, ComponentMetrics(registry, NAME, REASONS))
    appender = _appender(settings, bootstrap, clock)
    spool = Spool(settings.data_dir / "spool" / NAME, gelf.spool_bytes)
    metrics.component.received(spool.records)
    outbox = _outbox(settings, appender, spool, metrics, clock)
    names = user_names(settings, registry, clock)
    privacy = privacy_rules(settings)
    keeper = keeper_of(privacy, names)
    samples = samples_of(settings, privacy, appender, registry, clock)
    inputs: list[TcpInput | UdpInput] = []
    if gelf.tcp is not None:
        maker = record_maker(settings, keeper, samples, gelf.tcp_host)
        inputs.append(TcpInput(settings, maker, appender, metrics, registry, clock))
    if gelf.udp is not None:
        maker = record_maker(settings, keeper, samples, gelf.udp_host)
        inputs.append(UdpInput(gelf, maker, outbox, metrics, registry, clock))
    _show_held(registry, spool, outbox)
    health = _health(appender, spool, inputs)
    monitor = Monitor(settings, NAME, _read_by(gelf), registry, health)
    beside = [samples] if names is None else [samples, names]
    await service.serve([monitor, appender, outbox, *beside, *inputs])


def _read_by(gelf: GelfSettings) -> GelfSettings:
    """Return the listener of ``/metrics``, which this machine may always read."""
    if not gelf.allow:
        return gelf
    return gelf.model_copy(update={"allow": (*gelf.allow, *_THIS_MACHINE)})


def _appender(settings: Settings, bootstrap: str, clock: Clock) -> Appender:
    return Appender(
        client_options(settings.kafka, bootstrap),
        [settings.topics.names.of(TOPIC), settings.topics.names.of(SAMPLES_TOPIC)],
        settings.topics.partitions,
        clock,
        buffer_bytes=settings.gelf.buffer_bytes,
    )


def _outbox(
    settings: Settings, appender: Appender, spool: Spool, metrics: GelfMetrics, clock: Clock
) -> Outbox:
    return Outbox(
        appender,
        spool,
        settings.topics.names.of(TOPIC),
        settings.topics.partitions,
        clock,
        memory_bytes=settings.gelf.buffer_bytes,
        sent=_sent(metrics, clock),
        dropped=lambda number: metrics.component.discarded(Drop.SPOOL_FULL, number),
    )


def _sent(metrics: GelfMetrics, clock: Clock) -> Callable[[int], None]:
    def sent(number: int) -> None:
        metrics.component.sent(number)
        metrics.component.succeeded(clock.now_ms())

    return sent


def _health(
    appender: Appender, spool: Spool, inputs: Sequence[TcpInput | UdpInput]
) -> Callable[[], Mapping[str, Any]]:
    def health() -> Mapping[str, Any]:
        trouble = appender.trouble
        if trouble is None and not appender.reachable:
            trouble = "Kafka does not answer"
        return {
            "status": OK if trouble is None else "unavailable",
            "kafka": "reachable" if appender.reachable else "away",
            "detail": trouble,
            **{one.name: str(one.address) for one in inputs},
            "spool_bytes": spool.size,
            "spool_records": spool.records,
        }

    return health


def _show_held(registry: CollectorRegistry, spool: Spool, outbox: Outbox) -> None:
    for name, meaning, value in (
        ("mailstream_spool_bytes", "Bytes on disk that wait for Kafka.", lambda: spool.size),
        ("mailstream_spool_records", "Records on disk that wait for Kafka.", lambda: spool.records),
        (
            "mailstream_spool_damaged_segments",
            "Files of the spool of which an end could not be read.",
            lambda: spool.damaged,
        ),
        (
            "mailstream_gelf_held_bytes",
            "Bytes of messages from datagrams that are held in memory.",
            lambda: outbox.held_bytes,
        ),
    ):
        Gauge(name, meaning, registry=registry).set_function(value)
