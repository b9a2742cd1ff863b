"""What is counted of GELF messages, wherever they come in."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry

from pipeline.core.errors import Reason
from pipeline.kit.telemetry import ComponentMetrics
from producers.gelf.records import Drop
from producers.gelf.subjects import Noise
from producers.haul import HaulMetrics

REASONS: Final = (*Reason, *Drop)
_NOISE: Final = (
    "mailstream_gelf_noise_total",
    "GELF messages about neither mail nor logins, by kind; they are not written.",
)


class GelfMetrics(HaulMetrics):
    """The counters of messages, beside those that every component has."""

    def __init__(self, registry: CollectorRegistry, component: ComponentMetrics) -> None:
        """Register in *registry*; count received, sent and discarded in *component*."""
        super().__init__(registry, component, _NOISE, Noise)
