"""Pairs of key and value: each kept once, with the last pane in which it was seen.

Memory follows the pairs that a window can still show, never more than a bounded number per key.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.families import DISTINCT_LIMIT

KEPT: Final = DISTINCT_LIMIT + 1
"""Pairs kept per key: one more than are counted, so that more of them show as more.

The newest ones by last pane: then every window, which holds the newest ones too, counts exactly up
to this many, and what was given up can never be missed.
"""

_YOUNG: Final = 4096
"""Pairs beside the others before they are merged, at least; at most an eighth of the others."""
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)


class Columns(NamedTuple):
    """Pairs as columns of equal length."""

    pair: NDArray[np.uint64]
    """Key and value as one number: value xor key number times a constant."""
    key: NDArray[np.int32]
    """Key number."""
    last: NDArray[np.int64]
    """Last pane seen, in units of 10 s."""

    def only(self, wanted: NDArray[np.bool_]) -> Columns:
        """Return the wanted pairs."""
        return Columns(self.pair[wanted], self.key[wanted], self.last[wanted])

    def at(self, places: NDArray[np.intp]) -> Columns:
        """Return the pairs at *places*, in that order."""
        return Columns(self.pair[places], self.key[places], self.last[places])

    def value(self) -> NDArray[np.uint64]:
        """Return the values again."""
        return self.pair ^ _spread(self.key)


def pairs_of(key: NDArray[np.int32], pane: NDArray[np.int64], value: NDArray[np.uint64]) -> Columns:
    """Return rows of key numbers, panes and values as pairs, which may repeat."""
    return Columns(value ^ _spread(key), key, pane)


class Pairs:
    """A set of pairs, sorted in two runs: a small one takes what is new, the other is rarely moved."""

    def __init__(self) -> None:
        """Start without pairs."""
        self._old = self._young = joined([])

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._old.pair) + len(self._young.pair)

    def columns(self) -> Columns:
        """Return all pairs, each once."""
        return joined([self._old, self._young])

    def between(self, start: int, end: int) -> Columns:
        """Return the pairs whose last pane is in ``[start, end)``."""
        runs = self._old, self._young
        return joined([run.only((run.last >= start) & (run.last < end)) for run in runs])

    def add(self, rows: Columns, oldest: int) -> None:
        """Take rows in any order; pairs last seen at *oldest* or before may be given up."""
        rows = unified(rows)
        old = self._old
        place = np.searchsorted(old.pair, rows.pair)
        known = place < len(old.pair)
        known[known] = old.pair[place[known]] == rows.pair[known]
        at = place[known]
        old.last[at] = np.maximum(old.last[at], rows.last[known])
        self._young = unified(joined([self._young, rows.only(~known)]))
        if len(self._young.pair) > max(_YOUNG, len(old.pair) // 8):
            self.trim(oldest)

    def trim(self, oldest: int) -> None:
        """Give up pairs last seen at *oldest* or before, and those above the limit of their key."""
        every = self.columns()
        every = every.only(every.last > oldest)
        crowded = np.bincount(every.key) > KEPT
        if crowded.any():
            every = every.only(_newest(every, crowded))
        self._old = every.at(np.argsort(every.pair, kind="stable"))  # two sorted runs: one merge
        self._young = joined([])


def unified(rows: Columns) -> Columns:
    """Return each pair once, ordered, with the last of its panes."""
    order = np.argsort(rows.pair, kind="stable")
    pair = rows.pair[order]
    first = np.ones(len(pair), np.bool_)
    np.not_equal(pair[1:], pair[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    if len(starts) == len(pair):
        return Columns(pair, rows.key[order], rows.last[order])
    return Columns(
        pair[starts], rows.key[order[starts]], np.maximum.reduceat(rows.last[order], starts)
    )


def joined(parts: list[Columns]) -> Columns:
    """Return the pairs of all parts one behind the other."""
    return Columns(
        np.concatenate([np.zeros(0, np.uint64), *(part.pair for part in parts)]),
        np.concatenate([np.zeros(0, np.int32), *(part.key for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.last for part in parts)]),
    )


def _newest(every: Columns, crowded: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which pairs are among the :data:`KEPT` newest of their key."""
    places = np.flatnonzero(crowded[every.key])
    order = places[np.lexsort((-every.last[places], every.key[places]))]
    key = every.key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    rank = np.arange(len(key)) - np.repeat(starts, np.diff(starts, append=len(key)))
    kept = np.ones(len(every.key), np.bool_)
    kept[order[rank >= KEPT]] = False
    return kept


def _spread(key: NDArray[np.int32]) -> NDArray[np.uint64]:
    return key.astype(np.uint64) * _SPREAD
