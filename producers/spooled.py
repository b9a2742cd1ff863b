"""A service that cannot push its senders back: what writes its records, and how that shows.

Records go through memory, and while Kafka is away through a spool on disk (``outbox``, ``spool``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from ipaddress import ip_network
from typing import Any, Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Gauge

from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import Settings
from pipeline.kit.settings_base import Listener
from pipeline.kit.telemetry import ComponentMetrics
from pipeline.kit.values import Address
from producers.appender import Appender
from producers.monitor import OK
from producers.outbox import Outbox
from producers.spool import Spool

L = TypeVar("L", bound=Listener)

_THIS_MACHINE: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class Input(Protocol):
    """Where messages come in."""

    @property
    def name(self) -> str:
        """Return what ``/health`` calls it."""

    @property
    def address(self) -> Address:
        """Return where it listens."""


class Spooled:
    """The way of a service's records to Kafka."""

    def __init__(
        self,
        settings: Settings,
        bootstrap: str,
        clock: Clock,
        name: str,
        topic: str,
        component: ComponentMetrics,
        full: StrEnum,
        *,
        buffer_bytes: int,
        spool_bytes: int,
        beside: Sequence[str] = (),
    ) -> None:
        """Write to *topic*.

        Args:
            settings: The whole configuration.
            bootstrap: Where Kafka is; it may be away.
            clock: The machine's.
            name: Of the service, and of its spool's folder.
            topic: Its name in the code.
            component: Where records are counted; those that wait on disk are received again.
            full: Why a record is dropped that has no room.
            buffer_bytes: Most bytes in memory.
            spool_bytes: Most bytes on disk.
            beside: Topics that the appender may write to as well.

        Raises:
            MailstreamError: The spool cannot be used.
        """
        names, partitions = settings.topics.names, settings.topics.partitions
        full_topic = names.of(topic)
        self.appender = Appender(
            client_options(settings.kafka, bootstrap),
            [full_topic, *map(names.of, beside)],
            partitions,
            clock,
            buffer_bytes=buffer_bytes,
        )
        self.spool = Spool(settings.data_dir / "spool" / name, spool_bytes)
        component.received(self.spool.records)

        def sent(number: int) -> None:
            component.sent(number)
            component.succeeded(clock.now_ms())

        self.outbox = Outbox(
            self.appender,
            self.spool,
            full_topic,
            partitions,
            clock,
            memory_bytes=buffer_bytes,
            sent=sent,
            dropped=lambda number: component.discarded(full, number),
        )

    def health(self, inputs: Sequence[Input]) -> Callable[[], Mapping[str, Any]]:
        """Return what answers ``/health``: Kafka, where *inputs* listen, and what waits."""
        appender, spool = self.appender, self.spool

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

    def show_held(self, registry: CollectorRegistry, feed: str) -> None:
        """Show in *registry* what waits: on disk, and as ``mailstream_<feed>_held_bytes`` in memory."""
        spool, outbox = self.spool, self.outbox
        for name, meaning, value in (
            ("mailstream_spool_bytes", "Bytes on disk that wait for Kafka.", lambda: spool.size),
            (
                "mailstream_spool_records",
                "Records on disk that wait for Kafka.",
                lambda: spool.records,
            ),
            (
                "mailstream_spool_damaged_segments",
                "Files of the spool of which an end could not be read.",
                lambda: spool.damaged,
            ),
            (
                f"mailstream_{feed}_held_bytes",
                "Bytes of messages from datagrams that are held in memory.",
                lambda: outbox.held_bytes,
            ),
        ):
            Gauge(name, meaning, registry=registry).set_function(value)


def readable_here(listener: L) -> L:
    """Return the listener of ``/metrics``, which this machine may read whoever else may."""
    if not listener.allow:
        return listener
    return listener.model_copy(update={"allow": (*listener.allow, *_THIS_MACHINE)})
