"""Backfill of counts of different values, such as the domains that a user sent to.

Kept are the values by key and step.  More than a thousand in one step are shown as a thousand in every
window that holds the step, so no more than one above that are kept of each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

from pipeline.core.delta import value_hash
from pipeline.core.event import MailEvent
from pipeline.core.families import DISTINCT_LIMIT, Family

Key: TypeAlias = tuple[str, ...]
ByStep: TypeAlias = dict[int, set[int]]
"""Hashes of the values that were seen in each step."""


class Distincts:
    """The different values of every key's fields, by step."""

    def __init__(self) -> None:
        """Begin with none."""
        self._seen: dict[tuple[str, str], dict[Key, ByStep]] = defaultdict(dict)

    def add(self, family: Family, key: Key, event: MailEvent, start_ms: int) -> None:
        """Note the values of *event*, of the step that begins at *start_ms*."""
        for one in family.distincts:
            value = getattr(event, one.field)
            if value is None:
                continue
            steps = self._seen[family.name, one.name].setdefault(key, {})
            values = steps.setdefault(start_ms, set())
            if len(values) <= DISTINCT_LIMIT:
                values.add(value_hash(value))

    def of(self, family: Family, name: str) -> Mapping[Key, ByStep]:
        """Return what was seen of the count called *name*, by key."""
        return self._seen[family.name, name]


def numbers(
    steps: Mapping[int, Collection[int]], window: int, step: int
) -> Iterator[tuple[int, int]]:
    """Yield (time, change of the number of different values in the window before it), by time."""
    changes: Counter[int] = Counter()
    until: dict[int, int] = {}
    for start in sorted(steps):
        shown = start + step
        for value in steps[start]:
            if until.get(value, -1) >= shown:
                changes[until[value]] += 1  # it stays
            else:
                changes[shown] += 1
            until[value] = shown + window
            changes[shown + window] -= 1
    number = before = 0
    for at in sorted(at for at, change in changes.items() if change):
        number += changes[at]
        capped = min(number, DISTINCT_LIMIT)
        if capped != before:
            yield at, capped - before
        before = capped
