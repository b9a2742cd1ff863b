"""Distinct values: which values of a field the keys of a batch had, in which panes, each once."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.delta import DistinctRows, value_hash
from pipeline.core.families import Distinct
from pipeline.enrich.columns import Columns, Ints
from pipeline.enrich.memo import Memo

Places = NDArray[np.intp] | slice
"""Which events of a batch; a slice when it is all of them."""


class Keyed(NamedTuple):
    """The keys of some events, ordered by target partition."""

    names: list[str]
    """The distinct joined keys."""
    first: list[int]
    """Where each partition's keys begin, and their number."""
    key: Ints
    """The place of each event's key in *names*."""


class Moments(NamedTuple):
    """Event type and pane of every event, as one number."""

    code: Ints
    """Event type times the number of *panes*, plus the place in it."""
    place: Ints
    """That place."""
    panes: Ints
    """The distinct panes, in units of 10 s, ascending."""


class Values:
    """Finds distinct values; holds nothing but the hashes of known ones."""

    def __init__(self) -> None:
        """Know none."""
        self._hash: Memo[str, int] = Memo(value_hash)

    def rows(
        self, distinct: Distinct, columns: Columns, places: Places, keyed: Keyed, moments: Moments
    ) -> list[DistinctRows]:
        """Return the rows of each target partition, ordered by key, value and pane.

        Args:
            distinct: Whose values.
            columns: The events of the batch.
            places: Those that the family counts.
            keyed: Their keys.
            moments: Where each event of the batch lies in time.
        """
        column = columns.column(distinct.field)
        if distinct.instead is not None:
            column = columns.column_or(distinct.field, distinct.instead)
        value, key, pane = column.codes[places], keyed.key, moments.place[places]
        if None in column.names:
            told = value != column.names.index(None)
            value, key, pane = value[told], key[told], pane[told]
        panes, names = len(moments.panes), len(column.names)
        found = np.unique((key * names + value) * panes + pane)
        rest, pane = np.divmod(found, panes)
        key, value = np.divmod(rest, names)
        hashes = self._hashes(column.names)[value]
        edges: list[int] = np.searchsorted(key, keyed.first).tolist()
        return [
            DistinctRows.of(
                key[start:end] - first, moments.panes[pane[start:end]], hashes[start:end]
            )
            for first, (start, end) in zip(keyed.first, pairwise(edges), strict=False)
        ]

    def _hashes(self, names: list[str | None]) -> NDArray[np.uint64]:
        known = self._hash
        return np.array([0 if name is None else known[name] for name in names], np.uint64)
