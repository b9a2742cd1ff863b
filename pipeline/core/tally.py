"""The tally: phase 1's cumulative counters and histograms, declared once and counted in plain dicts.

Phase 1 adds to it only after a batch is committed; the exporter shows it.  It starts at zero with
the process: ``rate()`` and ``histogram_quantile()`` are for it, exact figures are the windows'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

OTHER: Final = "_other"
BOUNDS_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


@dataclass(frozen=True, slots=True)
class CounterFamily:
    """One declared counter."""

    name: str
    help: str
    labels: tuple[str, ...]
    capped: tuple[str, ...] = ()
    """Labels whose values come from outside: after ``max_values`` distinct ones, ``_other``."""


@dataclass(frozen=True, slots=True)
class HistogramFamily(CounterFamily):
    """One declared histogram of seconds, with the bounds above."""


COUNTERS: Final = (
    CounterFamily(
        "mail_events_total",
        "Events committed to mail.events; units as in mail_user_events; logins have the direction none.",
        ("source", "event_type", "direction"),
    ),
    CounterFamily(
        "mail_ip_outcomes_total",
        "Events of customer mail by sending address and provider.",
        ("ip", "provider", "event_type"),
        capped=("ip",),
    ),
    CounterFamily(
        "mail_provider_outcomes_total",
        "Events of customer mail by receiving provider.",
        ("provider", "event_type"),
    ),
    CounterFamily(
        "mail_failures_total",
        "Deferred, bounced and rejected events of customer mail by provider and class.",
        ("provider", "event_type", "bounce_class"),
    ),
    CounterFamily(
        "mail_unclassified_replies_total",
        "Deferred, bounced (late too) and rejected events whose reply no rule knows, by what such replies share; "
        "see docs/bounces.md.",
        ("fingerprint",),
        capped=("fingerprint",),
    ),
    CounterFamily(
        "mail_events_duplicate_total",
        "Records dropped because their event id was seen within the dedupe horizon.",
        ("source",),
    ),
    CounterFamily(
        "mail_events_dead_total",
        "Records that could not be used and went to mail.dead.",
        ("source", "reason"),
    ),
    CounterFamily(
        "mail_events_late_total",
        "Events more than 24 h older than their ingest: written, in no window.",
        ("source",),
    ),
    CounterFamily(
        "mail_events_future_total",
        "Events more than 5 min newer than their ingest: counted at ingest time.",
        ("source",),
    ),
    CounterFamily(
        "mail_events_shadow_total",
        "Records left out because another feed of the same installation tells the same.",
        ("source",),
    ),
    CounterFamily(
        "mail_events_ignored_total",
        "Records that are no events: pending (nothing has happened yet), noise (about neither mail nor logins).",
        ("source", "reason"),
    ),
    CounterFamily(
        "mail_events_unattributed_total",
        "Events that add nothing to a family because a field of its key is absent.",
        ("family",),
    ),
)

HISTOGRAMS: Final = (
    HistogramFamily(
        "mail_provider_delivery_seconds",
        "Delivery time of delivered customer mail as its source gives it, by provider.",
        ("provider",),
    ),
    HistogramFamily(
        "mail_provider_queue_seconds",
        "Time from queued to delivered of customer mail, by provider.",
        ("provider",),
    ),
    HistogramFamily(
        "mail_provider_smtp_seconds",
        "Part of the delivery time of customer mail that the receiving server took, from the envelope to its reply to the message, by provider, where a source tells it (ZoneMTA's plugin).",
        ("provider",),
    ),
    HistogramFamily(
        "mail_route_roundtrip_seconds",
        "Time from the beginning of a round to first sight of its mail, of probes that arrived in time, in the inbox or in junk.",
        ("route", "origin"),
        capped=("route", "origin"),
    ),
    HistogramFamily(
        "mail_ip_delivery_seconds",
        "Delivery time of delivered customer mail, by sending address.",
        ("ip",),
        capped=("ip",),
    ),
)

Labels = tuple[str, ...]


class Tally:
    """Counts by declared name and label values."""

    def __init__(self, max_values: int = 500) -> None:
        """Cap labels from outside at *max_values* distinct values each."""
        self._max_values = max_values
        self._capped: dict[str, tuple[list[int], set[Labels]]] = {}
        for family in (*COUNTERS, *HISTOGRAMS):
            if family.capped:
                self._capped[family.name] = ([*map(family.labels.index, family.capped)], set())
        self.counters: dict[str, dict[Labels, int]] = {family.name: {} for family in COUNTERS}
        self.histograms: dict[str, dict[Labels, tuple[NDArray[np.int64], float]]] = {
            family.name: {} for family in HISTOGRAMS
        }
        """Per labels: counts per bucket (not cumulative, the last is +Inf) and the sum in s."""

    def add(self, name: str, counts: Mapping[Labels, int] | Iterable[tuple[Labels, int]]) -> None:
        """Add increments to the counter *name*."""
        counter = self.counters[name]
        items = counts.items() if isinstance(counts, Mapping) else counts
        for labels, count in items:
            key = self._bounded(name, labels)
            counter[key] = counter.get(key, 0) + count

    def observe(self, name: str, labels: Labels, buckets: NDArray[Any], total_s: float) -> None:
        """Add counts per bucket (``len(BOUNDS_SECONDS) + 1``) and their sum in seconds."""
        key = self._bounded(name, labels)
        held = self.histograms[name].get(key)
        if held is None:
            self.histograms[name][key] = (buckets.astype(np.int64), total_s)
        else:
            self.histograms[name][key] = (held[0] + buckets, held[1] + total_s)

    def _bounded(self, name: str, labels: Labels) -> Labels:
        capped = self._capped.get(name)
        if capped is None:
            return labels
        places, known = capped
        values = tuple(labels[place] for place in places)
        if values in known:
            return labels
        if len(known) < self._max_values:
            known.add(values)
            return labels
        return tuple(OTHER if place in places else label for place, label in enumerate(labels))
