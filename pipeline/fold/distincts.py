"""Distinct values of one field by key, over the sliding windows.

A pair of key and value is in a window while the last pane it was seen in is.  Panes ahead of the
clock wait apart: a pair that is seen now and in a later pane is in the windows of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.core.families import DISTINCT_WINDOWS_MS
from pipeline.core.pane import BASE_PANE_MS, pane_length
from pipeline.fold.pairs import Columns, Pairs, joined, pairs_of, unified

_TRIM_PANES: Final = 30
"""How often what is too old is given up where nothing arrives."""


def distinct_windows(windows_ms: Sequence[int]) -> tuple[int, ...]:
    """Return those of *windows_ms* over which distinct values are counted."""
    return tuple(window for window in windows_ms if window in DISTINCT_WINDOWS_MS)


class DistinctFold:
    """The distinct values of one field in one partition, by key number.

    The order and the grouping of rows do not show, and a row may come any number of times.
    """

    def __init__(self, windows_ms: Sequence[int]) -> None:
        """Count over these windows, all of :data:`DISTINCT_WINDOWS_MS`; without any, count nothing."""
        self.windows_ms = tuple(windows_ms)
        self._now_ms = 0
        self._trimmed = 0
        self._pairs = Pairs()
        self._ahead: dict[int, Pairs] = {}

    @property
    def size(self) -> int:
        """Return how many pairs are held."""
        return len(self._pairs) + sum(len(pairs) for pairs in self._ahead.values())

    def add(
        self, key: NDArray[np.int32], pane: NDArray[np.int64], value: NDArray[np.uint64]
    ) -> None:
        """Take rows of key numbers, base panes and value hashes."""
        held = pane > self._oldest()
        if not held.all():
            key, pane, value = key[held], pane[held], value[held]
        if len(key) == 0:
            return
        rows = pairs_of(key, pane, value)
        now = self._now_ms // BASE_PANE_MS
        if pane.max() > now:
            for one in np.unique(pane[pane > now]).tolist():
                ahead = self._ahead.setdefault(one, Pairs())
                ahead.add(rows.only(pane == one), 0)
            rows = rows.only(pane <= now)
        self._pairs.add(rows, self._oldest())

    def advance(self, now_ms: int) -> None:
        """Move the windows to *now_ms*, which never goes back."""
        self._now_ms = now_ms
        now = now_ms // BASE_PANE_MS
        for pane in sorted(pane for pane in self._ahead if pane <= now):
            arrived = self._ahead.pop(pane)
            if pane > self._oldest():
                self._pairs.add(arrived.columns(), self._oldest())
        if now - self._trimmed >= _TRIM_PANES:
            self._trimmed = now
            self._pairs.trim(self._oldest())

    def counts(self, window_ms: int, keys: int) -> NDArray[np.int64]:
        """Return how many values each of *keys* key numbers has; above the limit, more than it."""
        length = pane_length(window_ms)
        end = (self._now_ms // length + 1) * (length // BASE_PANE_MS)
        # The open minute of a long window holds base panes that are still ahead.
        ahead = [pairs.columns() for pane, pairs in self._ahead.items() if pane < end]
        columns = self._pairs.columns()
        if ahead:
            columns = unified(joined([columns, *ahead]))
        shown = columns.key[columns.last > self._before(window_ms)]
        return np.bincount(shown, minlength=keys)

    @property
    def closed_length_ms(self) -> int | None:
        """Return the length of the closed panes that must tell what :meth:`seen` says, if any must.

        Given back at the start of its pane, a pair is in the windows that are made of such panes.
        Those of finer ones are made of what arrived in the last minutes, which is read again.
        """
        return max(map(pane_length, self.windows_ms), default=None)

    def seen(self, start_ms: int, end_ms: int) -> Columns:
        """Return the pairs last seen in ``[start_ms, end_ms)``, both edges of base panes.

        With the rows of later panes they are all that the windows need of these panes: a pair that
        was seen again later is among those rows.
        """
        return self._pairs.between(start_ms // BASE_PANE_MS, end_ms // BASE_PANE_MS)

    def _before(self, window_ms: int) -> int:
        """Return the last base pane before the window."""
        length = pane_length(window_ms)
        newest = self._now_ms // length
        return int((newest - window_ms // length + 1) * (length // BASE_PANE_MS) - 1)

    def _oldest(self) -> int:
        """Return the last base pane that no window shows."""
        if not self.windows_ms:
            return 1 << 62
        return min(map(self._before, self.windows_ms))
