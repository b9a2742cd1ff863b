"""Reading ``/metrics`` and holding it against the recount."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.kit.oracle import KEPT_LABELS, LABELS, Series

OTHER = "_other"

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")

Shown = Mapping[tuple[str, Series], int]
"""Values by (window, series)."""


class Sample(NamedTuple):
    """One line of a page."""

    name: str
    labels: dict[str, str]
    value: float


class Page:
    """One scrape, of one worker or of several: then equal series add up."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.samples = [sample for text in texts for sample in _samples(text)]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples called *name* that carry *labels*."""
        wanted = labels.items()
        return sum(
            one.value
            for one in self.samples
            if one.name == name and all(one.labels.get(key) == value for key, value in wanted)
        )

    def values(self, name: str, **labels: str) -> list[float]:
        """Return the values of the samples called *name* that carry *labels*."""
        wanted = labels.items()
        return [
            one.value
            for one in self.samples
            if one.name == name and all(one.labels.get(key) == value for key, value in wanted)
        ]

    def windowed(self) -> dict[tuple[str, Series], int]:
        """Return every windowed value above zero, by (window, series)."""
        shown: dict[tuple[str, Series], int] = defaultdict(int)
        for one in self.samples:
            names = LABELS.get(one.name)
            if names is not None and one.value:
                values = tuple(one.labels[name] for name in names)
                shown[one.labels["window"], Series(one.name, values)] += int(one.value)
        return dict(shown)

    def newest(self) -> dict[tuple[str, str], float]:
        """Return the newest event time in seconds by (sending address, event type)."""
        return {
            (one.labels["ip"], one.labels["event_type"]): one.value
            for one in self.samples
            if one.name == "mail_ip_last_event_timestamp_seconds"
        }


def differences(expected: Shown, shown: Shown, most: int = 20) -> list[str]:
    """Return a sentence per series whose value is not the expected one; none means equal."""
    wrong = sorted(
        key for key in expected.keys() | shown.keys() if expected.get(key) != shown.get(key)
    )
    lines = [
        f"{series.metric}{series.values} over {window}: {shown.get((window, series), 0)} shown, "
        f"{expected.get((window, series), 0)} expected"
        for window, series in wrong[:most]
    ]
    if len(wrong) > most:
        lines.append(f"and {len(wrong) - most} more of {len(expected)}")
    return lines


def key_of(series: Series) -> tuple[str, ...]:
    """Return the family key of a series: its values without the event type."""
    names = LABELS[series.metric]
    pairs = zip(names, series.values, strict=True)
    return tuple(value for name, value in pairs if name != "event_type")


def folded_key(series: Series) -> Series:
    """Return the series under which this one is summed when its key has lost its name."""
    names = LABELS[series.metric]
    pairs = zip(names, series.values, strict=True)
    return Series(
        series.metric,
        tuple(value if name in KEPT_LABELS else OTHER for name, value in pairs),
    )


def folded(expected: Shown, shown: Shown) -> dict[tuple[str, Series], int]:
    """Return *expected* with the keys that *shown* does not name summed under ``_other``.

    A key that is named keeps its name with all its windows and types, so that a family's sum
    is always the whole.
    """
    named = {(series.metric, key_of(series)) for _, series in shown}
    sums: dict[tuple[str, Series], int] = defaultdict(int)
    for (window, series), value in expected.items():
        kept = (series.metric, key_of(series)) in named
        sums[window, series if kept else folded_key(series)] += value
    return dict(sums)


def named_keys(shown: Shown) -> dict[str, set[tuple[str, ...]]]:
    """Return the keys that have their own name, by metric."""
    keys: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for _, series in shown:
        if series != folded_key(series):
            keys[series.metric].add(key_of(series))
    return keys


def _samples(text: str) -> Iterable[Sample]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            found = _SAMPLE.match(line)
            if found is None:
                raise ValueError(f"not a sample: {line[:200]}")
            labels = {
                name: _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], value)
                for name, value in _LABEL.findall(found[2] or "")
            }
            yield Sample(found[1], labels, float(found[3]))
