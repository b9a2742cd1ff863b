"""What a collector finds: numbers with the name, kind and labels that ``/metrics`` shows them under.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.core.observation import MAX_SERIES, MAX_VALUE, is_series, series

GAUGE: Final = "gauge"
COUNTER: Final = "counter"

_TOTAL: Final = "_total"
_LONGEST_VALUE: Final = 120
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; a counter's name stands without its ``_total``."""

    name: str
    help: str
    kind: str = GAUGE
    per_cluster: bool = False
    """Whether several nodes tell the same: then it has no label ``node``, and the highest counts."""

    def sample(self, value: float, **labels: str) -> Sample:
        """Return one number of it."""
        suffix = _TOTAL if self.kind == COUNTER else ""
        return Sample(
            self, float(value), tuple((name, label(text)) for name, text in labels.items()), suffix
        )


class Sample(NamedTuple):
    """One number."""

    family: Family
    value: float
    labels: Labels = ()
    suffix: str = ""
    """What follows the family's name: ``_total`` of a counter, ``_bucket`` of a histogram."""


def label(text: str) -> str:
    """Return *text* as a label may have it: short, on one line, valid, and no address."""
    valid = (
        text[:_LONGEST_VALUE].encode(errors="replace").decode()
    )  # names of files may be any bytes
    return _CONTROL.sub(" ", valid).replace("@", "(at)")


def values(samples: Iterable[Sample]) -> dict[str, float]:
    """Return the numbers of an observation: by series, those and as many as one may have."""
    found: dict[str, float] = {}
    for sample in samples:
        name = series(sample.family.name + sample.suffix, dict(sample.labels))
        if abs(sample.value) <= MAX_VALUE and is_series(name) and len(found) < MAX_SERIES:
            found[name] = sample.value
    return found


def present(table: Mapping[str, Family], numbers: Mapping[str, object]) -> list[Sample]:
    """Return a sample for each entry of *table* whose key has a number in *numbers*."""
    found = []
    for key, family in table.items():
        number = numbers.get(key)
        if isinstance(number, int | float):
            found.append(family.sample(number))
    return found
