"""Which keys of a family keep their name, and which are summed under ``_other``."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.families import Family, Sum
from pipeline.core.pane import HOUR_MS
from pipeline.fold.share import Share

STAY_NUMERATOR: Final = 8
STAY_DENOMINATOR: Final = 10
"""A kept key leaves only below 80 % of the last place, so that names do not flicker."""


class Choice(NamedTuple):
    """The keys that keep their name."""

    kept: Sequence[NDArray[np.bool_]]
    """By share, then by key number."""
    folded: int
    """How many keys do not."""


def rank_window(windows_ms: Sequence[int]) -> int:
    """Return the window whose counts rank keys: the longest up to 1 h, else the longest."""
    return max((window for window in windows_ms if window <= HOUR_MS), default=max(windows_ms))


class TopKeys:
    """The choice for one family, with its memory of who was kept."""

    def __init__(self, family: Family, limit: int, windows_ms: Sequence[int]) -> None:
        """Keep at most *limit* keys."""
        self._limit = limit
        self._window = rank_window(windows_ms)
        self._count = family.sums.index(Sum.COUNT)
        self._kept: frozenset[str] = frozenset()

    def choose(self, shares: Sequence[Share], needed: Collection[str] = ()) -> Choice:
        """Rank all keys by their count over all event types, ties by key.

        The keys in *needed* keep their name whatever their rank, beside those of the ranking.
        A key that was kept stays while its count is at least 80 % of that of the last place in
        the plain ranking; the other places go to the highest ranked.
        """
        starts = np.cumsum([0, *(len(share.names) for share in shares)]).tolist()
        rank = np.full(starts[-1], -1, np.int64)
        """Count by place; a place is a share's start + key number, free numbers have -1."""
        for share, start in zip(shares, starts, strict=False):
            counts = np.zeros(len(share.names), np.int64)
            np.add.at(counts, share.key, share.running[self._window][self._count])
            rank[start : start + len(counts)] = np.where(share.alive, counts, -1)
        alive = int(np.count_nonzero(rank >= 0))
        kept = rank >= 0 if alive <= self._limit else self._chosen(rank, shares, starts)
        self._kept = frozenset(_names(np.flatnonzero(kept), shares, starts))
        for share, start in zip(shares, starts, strict=False):
            numbers = [share.number(key) for key in needed]
            kept[[start + number for number in numbers if number is not None]] = True
        folded = alive - int(np.count_nonzero(kept))
        return Choice(np.split(kept, starts[1:-1]) if shares else [], folded)

    def _chosen(
        self, rank: NDArray[np.int64], shares: Sequence[Share], starts: Sequence[int]
    ) -> NDArray[np.bool_]:
        lowest = _nth_largest(rank, self._limit)
        kept = np.zeros(len(rank), np.bool_)
        for share, start in zip(shares, starts, strict=False):
            numbers = [share.number(key) for key in self._kept]
            kept[[start + number for number in numbers if number is not None]] = True
        kept &= rank * STAY_DENOMINATOR >= lowest * STAY_NUMERATOR
        free = self._limit - int(np.count_nonzero(kept))
        if free > 0:
            rest = np.where(kept, -1, rank)
            lowest = _nth_largest(rest, free)
            kept |= rest > lowest
            free = self._limit - int(np.count_nonzero(kept))
            tied = np.flatnonzero(rest == lowest)
            names = zip(_names(tied, shares, starts), tied.tolist(), strict=True)
            kept[[place for _, place in heapq.nsmallest(free, names)]] = True
        return kept


def _nth_largest(rank: NDArray[np.int64], place: int) -> int:
    index = len(rank) - place
    return int(np.partition(rank, index)[index])


def _names(places: NDArray[np.intp], shares: Sequence[Share], starts: Sequence[int]) -> list[str]:
    owners = np.searchsorted(starts, places, side="right") - 1
    return [
        shares[owner].names[place - starts[owner]]
        for owner, place in zip(owners.tolist(), places.tolist(), strict=True)
    ]
