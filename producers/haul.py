"""What came of some messages of a feed, and how that is counted."""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter

from pipeline.core.batch import OutRecord
from pipeline.kit.telemetry import ComponentMetrics


@dataclass(slots=True)
class Haul:
    """What came of some messages: received = records + discarded."""

    received: int = 0
    records: list[OutRecord] = field(default_factory=list)
    discarded: Multiset[StrEnum] = field(default_factory=Multiset)
    noise: Multiset[StrEnum] = field(default_factory=Multiset)

    def discard(self, reason: StrEnum, messages: int) -> None:
        """Note *messages* that came and were not looked at."""
        if messages:
            self.received += messages
            self.discarded[reason] += messages


class HaulMetrics:
    """The counters of messages, beside those that every component has."""

    def __init__(
        self,
        registry: CollectorRegistry,
        component: ComponentMetrics,
        noise: tuple[str, str],
        kinds: Iterable[StrEnum],
    ) -> None:
        """Register in *registry*; count received, sent and discarded in *component*.

        Args:
            registry: Where the counter of noise is shown.
            component: The usual counters.
            noise: Name and meaning of the counter of noise.
            kinds: Every kind of noise.
        """
        self.component = component
        name, meaning = noise
        counter = Counter(name, meaning, ["kind"], registry=registry)
        self._noise: dict[StrEnum, Counter] = {kind: counter.labels(kind.value) for kind in kinds}

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
