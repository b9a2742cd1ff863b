"""What one batch adds to the tally and to the newest times: worked out before the commit, added after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.core.engine_stats import EngineStats, OriginTimes
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAILURE_TYPES, MAIL_TYPES, NO_VALUE, PROBE_TYPES, Mail
from pipeline.core.tally import BOUNDS_SECONDS, Labels, Tally
from pipeline.enrich.columns import Column, Columns, Flags, Floats, Ints, distinct

MAX_ORIGINS: Final = 1000
"""Origins are names of configured keys; a raw topic written by another program may hold any."""

_TYPE_NAMES: Final[list[str | None]] = list(EVENT_TYPES)
_BOUNDS: Final = np.array(BOUNDS_SECONDS)
_BUCKETS: Final = len(BOUNDS_SECONDS) + 1


@dataclass(slots=True)
class Counts:
    """Increments of the tally."""

    counters: dict[str, dict[Labels, int]] = field(default_factory=dict)
    observed: list[tuple[str, Labels, NDArray[np.int64], float]] = field(default_factory=list)

    def add(self, name: str, labels: Labels, number: int = 1) -> None:
        """Count *number* under *labels* in the counter *name*."""
        counter = self.counters.setdefault(name, {})
        counter[labels] = counter.get(labels, 0) + number

    def commit(self, tally: Tally) -> None:
        """Add everything to *tally*."""
        for name, counter in self.counters.items():
            tally.add(name, counter)
        for name, labels, buckets, total_s in self.observed:
            tally.observe(name, labels, buckets, total_s)


@dataclass(slots=True)
class Newest:
    """The newest times of one (source, origin) in a batch."""

    received_ms: int
    event_ms: int
    delay_ms: int


def count_events(counts: Counts, columns: Columns) -> None:
    """Count a batch's events; late ones too, they belong to no window but to every total."""
    everything = np.arange(columns.length)
    kind = Column(_TYPE_NAMES, columns.event_type)
    source, direction = (
        columns.column("source"),
        columns.column_with_default("direction", NO_VALUE),
    )
    provider, ip = columns.column("provider"), columns.column("sending_ip")
    mail = np.flatnonzero(columns.scope(Mail.CUSTOMER, MAIL_TYPES))
    failed = np.flatnonzero(columns.scope(Mail.CUSTOMER, FAILURE_TYPES))
    for name, places, labels in (
        ("mail_events_total", everything, (source, kind, direction)),
        ("mail_ip_outcomes_total", mail, (ip, provider, kind)),
        ("mail_provider_outcomes_total", mail, (provider, kind)),
        ("mail_failures_total", failed, (provider, kind, columns.column("bounce_class"))),
    ):
        _count(counts, name, places, labels)
    delivered = np.flatnonzero(columns.scope(Mail.CUSTOMER, ("delivered",)))
    arrived = np.flatnonzero(columns.scope(Mail.ARRIVED, PROBE_TYPES))
    delivery, queue = columns.seconds("delivery_time_ms"), columns.seconds("queue_time_ms")
    for name, seconds, label in (
        ("mail_provider_delivery_seconds", delivery, provider),
        ("mail_provider_queue_seconds", queue, provider),
        ("mail_provider_smtp_seconds", columns.seconds("smtp_time_ms"), provider),
        ("mail_ip_delivery_seconds", delivery, ip),
    ):
        _observe(counts, name, seconds, delivered, (label,))
    if len(arrived):
        route = columns.column("route"), columns.column("origin")
        _observe(counts, "mail_route_roundtrip_seconds", delivery, arrived, route)


def count_late(counts: Counts, columns: Columns, late: Flags) -> None:
    """Count the events that are too old for the windows."""
    _count(counts, "mail_events_late_total", np.flatnonzero(late), (columns.column("source"),))


def newest_times(columns: Columns, received_ms: Ints) -> dict[tuple[str, str], Newest]:
    """Return the newest times per (source, origin)."""
    source, origin = columns.column("source"), columns.column("origin")
    width = len(origin.names)
    found = distinct(source.codes * width + origin.codes, len(source.names) * width)
    received = np.zeros(len(found.values), np.int64)
    np.maximum.at(received, found.inverse, received_ms)
    order = np.argsort(columns.event_ms, kind="stable")
    newest = np.zeros(len(found.values), np.int64)
    newest[found.inverse[order]] = order  # the last one of each stays
    event_ms = columns.event_ms[newest]
    delay_ms = received_ms[newest] - event_ms
    names = [
        (source.names[value // width] or "", origin.names[value % width] or "")
        for value in found.values.tolist()
    ]
    times = zip(received.tolist(), event_ms.tolist(), delay_ms.tolist(), strict=True)
    return {name: Newest(*three) for name, three in zip(names, times, strict=True)}


def commit_newest(newest: dict[tuple[str, str], Newest], stats: EngineStats) -> None:
    """Bring the newest times of *stats* up to date."""
    for key, times in newest.items():
        held = stats.origins.get(key)
        if held is None:
            if len(stats.origins) >= MAX_ORIGINS:
                continue
            held = stats.origins[key] = OriginTimes()
        held.received_ms = max(held.received_ms, times.received_ms)
        if times.event_ms >= held.event_ms:
            held.event_ms = times.event_ms
            held.delay_ms = times.delay_ms


class Grouped(NamedTuple):
    """Some events by their labels."""

    labels: list[tuple[str | None, ...]]
    """The distinct combinations."""
    inverse: Ints
    """The place of each event's combination in *labels*."""


def _grouped(places: NDArray[np.intp], labels: Sequence[Column]) -> Grouped:
    """Group the events at *places* by *labels*."""
    code: Ints = np.zeros(len(places), np.int64)
    space = 1
    for label in labels:
        code = code * len(label.names) + label.codes[places]
        space *= len(label.names)
    found = distinct(code, space)
    texts = []
    rest = found.values
    for label in reversed(labels):
        rest, place = np.divmod(rest, len(label.names))
        texts.append([label.names[number] for number in place.tolist()])
    return Grouped(list(zip(*reversed(texts), strict=True)), found.inverse)


def _count(counts: Counts, name: str, places: NDArray[np.intp], labels: Sequence[Column]) -> None:
    """Count the events at *places* by *labels*; where one is absent there is nothing to count."""
    if not len(places):
        return
    found = _grouped(places, labels)
    numbers = np.bincount(found.inverse).tolist()
    for present, number in zip(found.labels, numbers, strict=True):
        if None not in present:
            counts.add(name, cast("Labels", present), number)


def _observe(
    counts: Counts,
    name: str,
    seconds: Floats,
    places: NDArray[np.intp],
    labels: Sequence[Column],
) -> None:
    """Sort the *seconds* of the events at *places*, NaN where not told, into buckets by *labels*."""
    places = places[~np.isnan(seconds[places])]
    if not len(places):
        return
    found = _grouped(places, labels)
    bucket = np.searchsorted(_BOUNDS, seconds[places], side="left")
    size = len(found.labels)
    table = np.bincount(found.inverse * _BUCKETS + bucket, minlength=size * _BUCKETS)
    totals = np.bincount(found.inverse, weights=seconds[places], minlength=size).tolist()
    for present, line, total in zip(
        found.labels, table.reshape(size, _BUCKETS), totals, strict=True
    ):
        if None not in present:
            counts.observed.append((name, cast("Labels", present), line, total))
