"""The events of one batch as columns of small numbers, made once for all that counts them.

Values are numbered per batch in the order of their first appearance: no table outlives the batch,
and equal batches give equal numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.event import EVENT_TYPE_NUMBER, EVENT_TYPES, MailEvent
from pipeline.core.families import NO_VALUE, Mail

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

_DENSE_AT_MOST: Final = 1 << 18
"""Spaces up to this size are counted in an array of that length, larger ones by sorting."""


class Column(NamedTuple):
    """One field of every event."""

    names: list[str | None]
    """The distinct values."""
    codes: Ints
    """The place of each event's value in *names*."""

    def absent(self) -> Flags | None:
        """Tell where the field is absent; None: nowhere."""
        return self.codes == self.names.index(None) if None in self.names else None


class Distinct(NamedTuple):
    """The distinct values of a column of numbers, ascending, and where each one went."""

    values: Ints
    inverse: Ints


class Columns:
    """Columns of one batch's events, made when first asked for."""

    def __init__(self, events: Sequence[MailEvent], event_ms: Sequence[int]) -> None:
        """Take the events and the times at which they are counted."""
        self.events = events
        self.length = len(events)
        self.event_ms = np.array(event_ms, np.int64)
        self.event_type = np.fromiter(
            map(EVENT_TYPE_NUMBER.__getitem__, map(attrgetter("event_type"), events)),
            np.int64,
            self.length,
        )
        self._columns: dict[tuple[str, bool], Column] = {}
        self._scopes: dict[tuple[Mail, tuple[str, ...]], Flags] = {}

    def column(self, field: str) -> Column:
        """Return the column of the text field *field*."""
        held = self._columns.get((field, False))
        if held is None:
            numbers: defaultdict[str | None, int] = defaultdict(count().__next__)
            codes = np.fromiter(
                map(numbers.__getitem__, map(attrgetter(field), self.events)),
                np.int64,
                self.length,
            )
            held = self._columns[field, False] = Column(list(numbers), codes)
        return held

    def column_with_default(self, field: str) -> Column:
        """Return the column of *field* with ``none`` where it is absent."""
        held = self._columns.get((field, True))
        if held is None:
            held = self._columns[field, True] = _filled(self.column(field))
        return held

    def flags(self, field: str) -> Flags:
        """Return the column of the boolean field *field*."""
        return np.fromiter(map(attrgetter(field), self.events), np.bool_, self.length)

    def seconds(self, field: str, places: NDArray[np.intp]) -> Floats:
        """Return the field *field*, in ms, of the events at *places* in s; NaN where absent."""
        read = attrgetter(field)
        values = [read(self.events[place]) for place in places.tolist()]
        return np.array(values, np.float64) / 1000.0

    def scope(self, mail: Mail, event_types: tuple[str, ...]) -> Flags:
        """Tell which events are of *mail* and one of *event_types*."""
        held = self._scopes.get((mail, event_types))
        if held is None:
            wanted = np.array([name in event_types for name in EVENT_TYPES], np.bool_)
            held = wanted[self.event_type]
            if mail is Mail.CUSTOMER:
                held &= self._customer()
            self._scopes[mail, event_types] = held
        return held

    def _customer(self) -> Flags:
        direction = self.column("direction")
        outbound = np.array([name == "outbound" for name in direction.names], np.bool_)
        return outbound[direction.codes] & ~self.flags("is_dsn") & ~self.flags("is_probe")


def distinct(values: Ints, space: int) -> Distinct:
    """Return the distinct ones of *values*, which lie in ``[0, space)``."""
    if space > _DENSE_AT_MOST:
        found, inverse = np.unique(values, return_inverse=True)
        return Distinct(found, inverse)
    present = np.zeros(space, np.bool_)
    present[values] = True
    found = np.flatnonzero(present)
    rank = np.empty(space, np.int64)
    rank[found] = np.arange(len(found))
    return Distinct(found, rank[values])


def _filled(column: Column) -> Column:
    if None not in column.names:
        return column
    absent = column.names.index(None)
    if NO_VALUE in column.names:  # said in so many words by another event: one value, one number
        codes = np.where(column.codes == absent, column.names.index(NO_VALUE), column.codes)
        return Column(column.names, codes)
    return Column([NO_VALUE if name is None else name for name in column.names], column.codes)
