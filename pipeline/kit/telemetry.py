"""What every component counts about itself, under the same names.

Counts per batch, not per event: a child of a counter costs half a microsecond to increment.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pipeline.core.errors import Reason

_CREATED: Final = "_created"


class Stage(StrEnum):
    """Where a component failed."""

    RECEIVING = "receiving"
    PROCESSING = "processing"
    SENDING = "sending"


class ComponentMetrics:
    """The counters of one component; one component per registry.

    Reasons are members of bounded enums, never text from outside: each becomes a series.
    """

    def __init__(
        self, registry: CollectorRegistry, component: str, reasons: Iterable[StrEnum] = Reason
    ) -> None:
        """Register in *registry*; every discard reason begins at 0, so that ``rate()`` sees the first."""
        name = "mailstream_component"
        self._component = component
        self._received = Counter(
            f"{name}_received_events_total",
            "Events that reached the component.",
            ["component"],
            registry=registry,
        ).labels(component)
        self._sent = Counter(
            f"{name}_sent_events_total",
            "Events that the next component acknowledged.",
            ["component"],
            registry=registry,
        ).labels(component)
        self._discarded = Counter(
            f"{name}_discarded_events_total",
            "Events that the component dropped, by reason.",
            ["component", "reason"],
            registry=registry,
        )
        self._errors = Counter(
            f"{name}_errors_total",
            "Failures of the component, by reason and stage (receiving, processing, sending).",
            ["component", "reason", "stage"],
            registry=registry,
        )
        self._last_success = Gauge(
            f"{name}_last_success_seconds",
            "When the component last did its work, seconds since the epoch.",
            ["component"],
            registry=registry,
        ).labels(component)
        for reason in reasons:
            self._discarded.labels(component, reason.value)

    def received(self, events: int = 1) -> None:
        """Count events that reached the component."""
        self._received.inc(events)

    def sent(self, events: int = 1) -> None:
        """Count events that the next component acknowledged."""
        self._sent.inc(events)

    def discarded(self, reason: StrEnum, events: int = 1) -> None:
        """Count events that were dropped because of *reason*."""
        self._discarded.labels(self._component, reason.value).inc(events)

    def failed(self, reason: StrEnum, stage: Stage) -> None:
        """Count one failure."""
        self._errors.labels(self._component, reason.value, stage.value).inc()

    def succeeded(self, now_ms: int) -> None:
        """Note that the component did its work at *now_ms*."""
        self._last_success.set(now_ms / 1000)


class _Plain(Collector):
    """A registry without the times at which its series were created, which nobody reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith(_CREATED)]
            yield metric


def scrape(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Return a component's page in the format that the header ``Accept`` asks for, and its type."""
    encoder, content_type = choose_encoder(accept)
    return encoder(_Plain(registry)), content_type
