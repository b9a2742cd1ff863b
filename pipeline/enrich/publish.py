"""Pane rows: what a batch's events add to the panes that are published, by the keys of a family."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import Sum
from pipeline.core.publication import DELIVERED, KINDS, PUBLISHED_MS, PaneRows, kind_code
from pipeline.core.tally import BOUNDS_SECONDS
from pipeline.enrich.columns import Columns, Ints, distinct
from pipeline.enrich.values import Keyed, Places

_BOUNDS: Final = np.array(BOUNDS_SECONDS)


class Publication:
    """The events of one batch, prepared once for all families that are published."""

    def __init__(self, columns: Columns) -> None:
        """Sort the events by kind and pane."""
        seconds = columns.seconds("delivery_time_ms")
        timed = np.flatnonzero((columns.event_type == DELIVERED) & ~np.isnan(seconds))
        kind = columns.event_type.copy()
        kind[timed] = len(EVENT_TYPES) + np.searchsorted(_BOUNDS, seconds[timed], side="left")
        took_ms = np.zeros(columns.length, np.int64)
        took_ms[timed] = np.rint(seconds[timed] * 1000.0)
        self._amounts = (columns.volume(Sum.RECIPIENTS), columns.volume(Sum.BYTES), took_ms)
        pane = columns.event_ms // PUBLISHED_MS
        earliest = int(pane.min())
        code = (pane - earliest) * KINDS + kind
        found = distinct(code, (int(pane.max()) - earliest + 1) * KINDS)
        place, kinds = np.divmod(found.values, KINDS)
        self._pane = place + earliest
        self._kind = kind_code(kinds)
        self._moment = found.inverse

    def rows(self, places: Places, keyed: Keyed) -> list[PaneRows]:
        """Return the rows of each target partition, of the events at *places* with these keys."""
        width = len(self._kind)
        code = keyed.key * width + self._moment[places]
        found = distinct(code, len(keyed.names) * width)
        key, moment = np.divmod(found.values, width)
        kind, pane = self._kind[moment], self._pane[moment]
        length = len(key)
        sums = [np.bincount(found.inverse, minlength=length)]
        sums += [added(one[places], found.inverse, length) for one in self._amounts]
        edges: list[int] = np.searchsorted(key, keyed.first).tolist()
        return [
            PaneRows.of(
                key[start:end] - first,
                kind[start:end],
                pane[start:end],
                [one[start:end] for one in sums],
            )
            for first, (start, end) in zip(keyed.first, pairwise(edges), strict=False)
        ]


def added(amounts: Ints, inverse: Ints, length: int) -> Ints:
    """Return the sums of *amounts* by the row that each goes to."""
    sums = np.zeros(length, np.int64)
    some = np.flatnonzero(amounts)
    np.add.at(sums, inverse[some], amounts[some])  # exact: bincount's weights are floats
    return sums
