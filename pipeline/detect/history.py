"""The last 24 hours of every account's closed panes, as columns: what is ordinary is read off them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.detect.rules import HISTORY_PANES, PANE_MS

Ints = NDArray[np.int64]

_COLUMNS: Final = 4


class Accounts(NamedTuple):
    """What accounts did in one 5 min pane; columns of equal length, each account once."""

    users: Sequence[str]
    recipients: Ints
    destinations: Ints
    """Distinct recipient domains."""
    delivered: Ints
    bounced: Ints

    def at(self, place: int) -> Figures:
        """Return the figures of one account."""
        return Figures(*(int(column[place]) for column in self[1:]))


class Figures(NamedTuple):
    """What one account did in one pane."""

    recipients: int = 0
    destinations: int = 0
    delivered: int = 0
    bounced: int = 0

    @property
    def attempts(self) -> int:
        """Return the number of outcomes."""
        return self.delivered + self.bounced

    @property
    def failure_ratio(self) -> float:
        """Return the share of bounces among the outcomes."""
        return self.bounced / max(1, self.attempts)


class Past(NamedTuple):
    """The panes of one account in which it did something, oldest first."""

    pane_ms: Ints
    figures: NDArray[np.int64]
    """One line per pane, columns as in :class:`Figures`."""


class _Rows(NamedTuple):
    key: NDArray[np.int32]
    pane: NDArray[np.int32]
    figures: NDArray[np.int32]


class History:
    """Rows of (account, pane), 24 bytes each; accounts are numbered while they have a row."""

    def __init__(self) -> None:
        """Start without a past."""
        self._numbers: dict[str, int] = {}
        self._key: NDArray[np.int32] = np.zeros(0, np.int32)
        self._pane: NDArray[np.int32] = np.zeros(0, np.int32)
        self._figures: NDArray[np.int32] = np.zeros((0, _COLUMNS), np.int32)
        self._added: list[_Rows] = []
        """Rows that are not in the columns yet: they are joined once they are read."""
        self._panes: set[int] = set()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._key) + sum(len(rows.key) for rows in self._added)

    @property
    def panes(self) -> int:
        """Return how many closed panes are known, of those of the last 24 h."""
        return len(self._panes)

    def add(self, pane_ms: int, accounts: Accounts) -> None:
        """Take a closed pane, or what came late for one: rows of equal account and pane add up."""
        pane = pane_ms // PANE_MS
        self._panes.add(pane)
        numbers = self._numbers
        key = [numbers.setdefault(user, len(numbers)) for user in accounts.users]
        figures = np.stack(accounts[1:], axis=1).astype(np.int64)
        small = np.minimum(figures, np.iinfo(np.int32).max).astype(np.int32)
        self._added.append(_Rows(np.array(key, np.int32), np.full(len(key), pane, np.int32), small))

    def forget(self, now_ms: int) -> None:
        """Forget what happened more than 24 h before the pane that begins at *now_ms*."""
        oldest = now_ms // PANE_MS - HISTORY_PANES
        old = {pane for pane in self._panes if pane < oldest}
        if not old:
            return
        self._panes -= old
        self._join()
        kept = self._pane >= oldest
        self._figures, self._pane = self._figures[kept], self._pane[kept]
        used, key = np.unique(self._key[kept], return_inverse=True)
        self._key = key.astype(np.int32)
        names = list(self._numbers)
        self._numbers = {names[number]: place for place, number in enumerate(used.tolist())}

    def _join(self) -> None:
        if self._added:
            every = [_Rows(self._key, self._pane, self._figures), *self._added]
            self._key, self._pane, self._figures = map(np.concatenate, zip(*every, strict=True))
            self._added = []

    def of(self, users: Iterable[str]) -> Iterator[tuple[str, Past]]:
        """Return the past of each of *users*; empty where there is none."""
        self._join()
        wanted = {user: self._numbers.get(user, -1) for user in users}
        places = np.flatnonzero(np.isin(self._key, np.array(list(wanted.values()), np.int64)))
        order = places[np.lexsort((self._pane[places], self._key[places]))]
        keys = self._key[order]
        for user, number in wanted.items():
            first, end = np.searchsorted(keys, [number, number + 1]).tolist()
            mine = order[first:end]
            panes, starts = np.unique(self._pane[mine], return_index=True)
            figures = self._figures[mine].astype(np.int64)
            if len(starts) < len(mine):
                figures = np.add.reduceat(figures, starts, axis=0)
            yield user, Past(panes.astype(np.int64) * PANE_MS, figures)

    def figures(self, without: Iterable[tuple[tuple[str, ...], int, int]] = ()) -> Ints:
        """Return the figures of all rows but those of the (key, since, until) in *without*."""
        self._join()
        kept = np.ones(len(self._key), np.bool_)
        for (user,), since_ms, until_ms in without:
            start_ms = self._pane.astype(np.int64) * PANE_MS
            inside = (start_ms >= since_ms) & (start_ms < until_ms)
            kept &= ~(inside & (self._key == self._numbers.get(user, -1)))
        return self._figures[kept].astype(np.int64)
