"""What all targets said last, as one page: the series of a target are gone while it is down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.registry import Collector

from producers.sources.nodes.samples import Labels, Sample

NODE: Final = "node"


class Place(NamedTuple):
    """One target: what is looked at, and where."""

    source: str
    origin: str
    """The label ``node`` of its series."""


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes a number of the page the same as another."""

    labels: Labels
    suffix: str


class Board(Collector):
    """The numbers of every target that answers, and which ones do."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Show everything in *registry*."""
        self._samples: dict[Place, Sequence[Sample]] = {}
        self._down: dict[Place, str] = {}
        labels = ["source", "origin"]
        self._up = Gauge(
            "mailstream_up",
            "Whether a target answered when it was last asked.",
            labels,
            registry=registry,
        )
        self._succeeded = Gauge(
            "mailstream_poll_last_success_timestamp_seconds",
            "When a target last answered, seconds since the epoch.",
            labels,
            registry=registry,
        )
        self._took = Gauge(
            "mailstream_poll_duration_seconds",
            "How long the last look at a target took, whatever came of it.",
            labels,
            registry=registry,
        )
        registry.register(self)

    @property
    def down(self) -> dict[Place, str]:
        """Return the targets that are down, and why."""
        return dict(self._down)

    def answered(self, place: Place, samples: Sequence[Sample], took_s: float, now_ms: int) -> None:
        """Show what a target said."""
        self._samples[place] = samples
        self._down.pop(place, None)
        self._up.labels(*place).set(1)
        self._took.labels(*place).set(took_s)
        self._succeeded.labels(*place).set(now_ms / 1000)

    def failed(self, place: Place, why: str, took_s: float) -> bool:
        """Take a target's series away; tell whether it was not down already."""
        self._samples.pop(place, None)
        self._up.labels(*place).set(0)
        self._took.labels(*place).set(took_s)
        known = place in self._down
        self._down[place] = why
        return not known

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all targets that are up; where two tell the same, the highest counts."""
        metrics: dict[str, Metric] = {}
        found: dict[str, dict[_Key, float]] = {}
        for place, samples in self._samples.items():
            for sample in samples:
                family = sample.family
                metric = metrics.setdefault(
                    family.name, Metric(family.name, family.help, family.kind)
                )
                if metric.type == family.kind:
                    key = _Key(tuple(_labels(place, sample)), sample.suffix)
                    numbers = found.setdefault(family.name, {})
                    before = numbers.get(key, sample.value)
                    numbers[key] = before if math.isnan(sample.value) else max(before, sample.value)
        for name, numbers in sorted(found.items()):
            for key, value in numbers.items():
                metrics[name].add_sample(name + key.suffix, dict(key.labels), value)
            yield metrics[name]


def _labels(place: Place, sample: Sample) -> Iterator[tuple[str, str]]:
    if not sample.family.per_cluster:
        yield NODE, place.origin
    yield from sample.labels
