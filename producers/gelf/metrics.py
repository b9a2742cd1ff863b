"""What is counted of GELF messages, wherever they come in."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from pipeline.core.errors import Reason
from pipeline.kit.telemetry import ComponentMetrics
from producers.gelf.records import Drop, Haul
from producers.gelf.subjects import Noise

REASONS: Final = (*Reason, *Drop)


class GelfMetrics:
    """The counters of messages, beside those that every component has."""

    def __init__(self, registry: CollectorRegistry, component: ComponentMetrics) -> None:
        """Register in *registry*; count received, sent and discarded in *component*."""
        self.component = component
        counter = Counter(
            "mailstream_gelf_noise_total",
            "GELF messages about neither mail nor logins, by kind; they are not written.",
            ["kind"],
            registry=registry,
        )
        self._noise = {kind: counter.labels(kind.value) for kind in Noise}

    def count(self, haul: Haul) -> None:
        """Count what came of some messages; their records are counted once Kafka has them."""
        self.component.received(haul.received)
        for reason, number in haul.discarded.items():
            self.component.discarded(reason, number)
        self.noise(haul)

    def noise(self, haul: Haul) -> None:
        """Count the noise among some messages, by kind."""
        for kind, number in haul.noise.items():
            self._noise[kind].inc(number)
