"""The events of one batch as columns of small numbers, made once for all that counts them.

Of every event the few fields that are counted are kept as a *row*.

Values are numbered per batch in the order of their first appearance: no table outlives the batch,
and equal batches give equal numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.event import EVENT_TYPE_NUMBER, EVENT_TYPES
from pipeline.core.families import FAMILIES, Family, Mail, Sum
from pipeline.core.membership import ARRIVED, counts_volume

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

Row = tuple[Any, ...]
"""The values of a :class:`Layout`'s fields of one event."""

_ALWAYS: Final = (
    *("event_type", "source", "origin", "direction", "is_dsn", "is_probe"),
    *("recipients", "size_bytes", "delivery_time_ms", "queue_time_ms", "smtp_time_ms"),
    *("provider", "bounce_class", "sending_ip", "route", "outcome"),
)
"""Fields that are counted or counted by whatever the families are."""

_NUMBERS: Final = frozenset({"attempt", "response_code"})
"""Fields of numbers that are counted by."""


class Layout:
    """Which fields of an event are its row."""

    def __init__(self, families: Sequence[Family]) -> None:
        """Keep what *families* are counted by, and what is always counted."""
        counted_by = (field for family in families for field in family.fields)
        distincts = [one for family in families for one in family.distincts]
        values = (name for one in distincts for name in (one.field, one.instead) if name)
        self.fields = tuple(dict.fromkeys((*_ALWAYS, *counted_by, *values)))
        self.place = {field: place for place, field in enumerate(self.fields)}
        self.row_of: attrgetter[Row] = attrgetter(*self.fields)
        """Return the row of one event."""


LAYOUT: Final = Layout(FAMILIES)

_DENSE_AT_MOST: Final = 1 << 18
"""Spaces up to this size are counted in an array of that length, larger ones by sorting."""


class Column(NamedTuple):
    """One field of every event."""

    names: list[str | None]
    """The distinct values."""
    codes: Ints
    """The place of each event's value in *names*."""


class Distinct(NamedTuple):
    """The distinct values of a column of numbers, ascending, and where each one went."""

    values: Ints
    inverse: Ints


class Columns:
    """Columns of one batch's events, made when first asked for."""

    def __init__(
        self, rows: Sequence[Row], event_ms: Sequence[int], layout: Layout = LAYOUT
    ) -> None:
        """Take the rows of the events, laid out so, and the times at which they are counted."""
        self.length = len(rows)
        self._place = layout.place
        nothing: list[tuple[Any, ...]] = [()] * len(layout.fields)
        self._values = list(zip(*rows, strict=True)) or nothing
        self.event_ms = np.array(event_ms, np.int64)
        numbers = map(EVENT_TYPE_NUMBER.__getitem__, self.values("event_type"))
        self.event_type = np.fromiter(numbers, np.int64, self.length)
        self._accepted: Flags | None = None
        self._volumes: dict[Sum, Ints] = {}
        self._customer: Flags | None = None
        self._columns: dict[str, Column] = {}
        self._absent: dict[str, Flags | None] = {}
        self._scopes: dict[tuple[Mail, tuple[str, ...]], Flags] = {}

    def values(self, field: str) -> tuple[Any, ...]:
        """Return the value of *field* of every event."""
        return self._values[self._place[field]]

    def column(self, field: str) -> Column:
        """Return the column of *field*, as text."""
        held = self._columns.get(field)
        if held is None:
            held = _numbered(self.values(field))
            if field in _NUMBERS:
                names = [None if name is None else str(name) for name in held.names]
                held = Column(names, held.codes)
            self._columns[field] = held
        return held

    def absent(self, field: str) -> Flags | None:
        """Tell where the text field *field* is absent; None: nowhere."""
        if field not in self._absent:
            column = self.column(field)
            here = column.codes == column.names.index(None) if None in column.names else None
            self._absent[field] = here
        return self._absent[field]

    def column_with_default(self, field: str, default: str) -> Column:
        """Return the column of *field* with *default* where it is absent."""
        column = self.column(field)
        if None not in column.names:
            return column
        absent = column.names.index(None)
        if default in column.names:  # said in so many words by another event: one number for both
            said = column.names.index(default)
            return Column(column.names, np.where(column.codes == absent, said, column.codes))
        names: list[str | None] = [default if name is None else name for name in column.names]
        return Column(names, column.codes)

    def column_or(self, field: str, instead: str) -> Column:
        """Return the column of the text *field*, of the text *instead* where it is absent."""
        if self.absent(field) is None:
            return self.column(field)
        values = zip(self.values(field), self.values(instead), strict=True)
        return _numbered([other if one is None else one for one, other in values])

    def flags(self, field: str) -> Flags:
        """Return the column of the boolean field *field*."""
        return np.array(self.values(field), np.bool_)

    def seconds(self, field: str) -> Floats:
        """Return the field *field*, which is in ms, in s; NaN where it is absent."""
        values = self.values(field)
        if values.count(None) == len(values):
            return np.full(len(values), np.nan)
        return np.array(values, np.float64) / 1000.0

    def scope(self, mail: Mail, event_types: tuple[str, ...]) -> Flags:
        """Tell which events are of *mail* and one of *event_types*."""
        held = self._scopes.get((mail, event_types))
        if held is None:
            wanted = np.array([name in event_types for name in EVENT_TYPES], np.bool_)
            held = wanted[self.event_type]
            if mail in {Mail.CUSTOMER, Mail.ACCEPTED}:
                held &= self._customers()
            if mail is Mail.ACCEPTED:
                held &= self.accepted()
            if mail is Mail.ARRIVED and held.any():
                held &= self._arrived()
            self._scopes[mail, event_types] = held
        return held

    def accepted(self) -> Flags:
        """Tell which events say that a message was accepted for sending."""
        if self._accepted is None:
            sources = self.column("source")
            counted = [
                [counts_volume(source or "", name) for name in EVENT_TYPES]
                for source in sources.names
            ]
            self._accepted = np.array(counted, np.bool_)[sources.codes, self.event_type]
        return self._accepted

    def volume(self, one: Sum) -> Ints:
        """Return the recipients or bytes that each event adds."""
        held = self._volumes.get(one)
        if held is None:
            held = self._volumes[one] = np.zeros(self.length, np.int64)
            places = np.flatnonzero(self.accepted()).tolist()
            recipients = one is Sum.RECIPIENTS
            values = self.values("recipients" if recipients else "size_bytes")
            absent = 1 if recipients else 0
            told = [values[place] for place in places]
            held[places] = [absent if value is None else value for value in told]
        return held

    def _customers(self) -> Flags:
        if self._customer is None:
            direction = self.column("direction")
            outbound = np.array([name == "outbound" for name in direction.names], np.bool_)[
                direction.codes
            ]
            self._customer = outbound & ~self.flags("is_dsn") & ~self.flags("is_probe")
        return self._customer

    def _arrived(self) -> Flags:
        outcome = self.column("outcome")
        arrived = np.array([name in ARRIVED for name in outcome.names], np.bool_)
        return arrived[outcome.codes]


def _numbered(values: Sequence[str | None]) -> Column:
    numbers: defaultdict[str | None, int] = defaultdict(count().__next__)
    codes = np.fromiter(map(numbers.__getitem__, values), np.int64, len(values))
    return Column(list(numbers), codes)


def distinct(values: Ints, space: int) -> Distinct:
    """Return the distinct ones of *values*, which lie in ``[0, space)``."""
    if space > _DENSE_AT_MOST:
        found, inverse = np.unique(values, return_inverse=True)
        return Distinct(found, inverse)
    present = np.zeros(space, np.bool_)
    present[values] = True
    found = present.nonzero()[0]
    rank = np.empty(space, np.int64)
    rank[found] = np.arange(len(found))
    return Distinct(found, rank[values])
