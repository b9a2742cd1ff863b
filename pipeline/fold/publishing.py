"""What is gathered for consumers: pane rows until their pane is closed, then frames, then nothing.

No window is made of it, and it outlives no roll-up.  Which families there are the deltas tell: phase 1
decides what is published.

With D the committed position in the deltas and P what is closed, exactly the rows before D in panes
before P were in frames.  That holds through new epochs of the roll-ups, which begin the windows anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, compress
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.delta import FamilyRows
from pipeline.core.publication import (
    KINDS,
    PUBLISHED_MS,
    FamilyPanes,
    PaneRows,
    encode_panes,
    joined,
    kind_code,
)
from pipeline.fold.columns import longer
from pipeline.fold.panes import Pane
from pipeline.fold.slots import NOBODY, Slots

SETTLE_ROWS: Final = 8192
"""Rows of a family gathered before they are added up."""
FREE_SLOTS: Final = 2 * SETTLE_ROWS
"""Slots freed with each of them: faster than they can be taken."""
FRAME_ROWS: Final = 5_000
"""Rows in one frame: with long keys still below what a topic takes, and a quarter of a transaction."""


class _Waiting(NamedTuple):
    """Rows of one delta frame."""

    keys: list[str]
    rows: PaneRows


class _Family:
    """The open panes of one family."""

    def __init__(self) -> None:
        self._slots = Slots(kinds=KINDS)
        self._newest: NDArray[np.int64] = np.zeros(0, np.int64)
        """By slot: its newest pane."""
        self._dead: list[NDArray[np.int32]] = []
        """Slots to be freed, of panes that are closed; those that are used again have a newest pane."""
        self._waiting: list[_Waiting] = []
        self._rows = 0
        self.panes: dict[int, Pane] = {}

    def add(self, keys: list[str], rows: PaneRows) -> None:
        """Take the rows of one frame."""
        self._waiting.append(_Waiting(keys, rows))
        self._rows += len(rows)
        if self._rows >= SETTLE_ROWS:
            self.settle()

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows."""
        return not self.panes and not self._rows

    def settle(self) -> None:
        """Add up what waits."""
        self._free()
        if not self._rows:
            return
        waiting, self._waiting, self._rows = self._waiting, [], 0
        key, kind, pane, sums = joined(
            [one.rows for one in waiting], [len(one.keys) for one in waiting]
        )
        keys = list(chain.from_iterable(one.keys for one in waiting))
        used = np.zeros(len(keys), np.bool_)
        used[key] = True
        if not used.all():  # or the number of an unused key would never be freed
            keys = list(compress(keys, used.tolist()))
            key = (np.cumsum(used) - 1)[key]
        slots = self._slots.place(keys, key, kind)
        if self._slots.capacity > len(self._newest):
            self._newest = longer(self._newest, self._slots.capacity)
        np.maximum.at(self._newest, slots, pane)
        for index in sorted(set(pane.tolist())):
            of = pane == index
            held = self.panes.setdefault(index, Pane())
            held.append(slots[of], sums[:, of], self._slots.size)

    def close(self, end: int) -> None:
        """Forget the panes before *end*."""
        gone = [self.panes.pop(index) for index in list(self.panes) if index < end]
        if gone:
            size = self._slots.size
            held = np.zeros(
                size, np.bool_
            )  # a pass over all slots: np.unique takes 400 ms a million
            for pane in gone:
                held[pane.content(size)[0]] = True
            dead = np.flatnonzero(held & (self._newest[:size] < end)).astype(np.int32)
            self._newest[dead] = 0
            self._dead.append(dead)

    def _free(self) -> None:
        """Free some slots: all of them at once would take too long."""
        if self._dead:
            dead = self._dead.pop()
            if len(dead) > FREE_SLOTS:
                self._dead.append(dead[FREE_SLOTS:])
                dead = dead[:FREE_SLOTS]
            unused = (self._newest[dead] == 0) & (self._slots.key[dead] != NOBODY)
            self._slots.release(dead[unused])

    def parts(self, index: int) -> Iterator[tuple[list[str], PaneRows]]:
        """Yield the rows of one pane, with their keys; a key's rows are never apart."""
        pane = self.panes.get(index)
        if pane is None:
            return
        slots, sums = pane.content(self._slots.size)
        order = np.argsort(self._slots.key[slots], kind="stable")
        slots, sums = slots[order], sums[:, order]
        key = self._slots.key[slots]
        first = np.diff(key, prepend=-1) != 0
        edges = np.append(np.flatnonzero(first), len(key))
        start = 0
        while start < len(key):
            end = int(edges[np.searchsorted(edges, start + FRAME_ROWS, side="right") - 1])
            inside = slice(start, end)
            numbers = key[inside][first[inside]]
            rows = PaneRows.of(
                np.cumsum(first[inside]) - 1,
                kind_code(self._slots.event_type[slots[inside]]),
                np.full(end - start, index),
                list(sums[:, inside]),
            )
            yield [self._slots.names[number] for number in numbers.tolist()], rows
            start = end


class Publishing:
    """The open panes of one partition, of all families that are published."""

    def __init__(self) -> None:
        """Begin with nothing, and nothing closed."""
        self._families: dict[str, _Family] = {}
        self._closed = 0
        self._floor = 0
        self._whole_from_ms = 0

    @property
    def closed_ms(self) -> int:
        """Return the start of the first pane that is not closed."""
        return self._closed * PUBLISHED_MS

    def follow(self, closed_ms: int) -> None:
        """Go on where panes before *closed_ms* are closed; the next rows of these are in frames."""
        self._closed = self._floor = closed_ms // PUBLISHED_MS

    def pass_cut(self) -> None:
        """Take every row from now on: those of closed panes come late."""
        self._floor = 0

    def lack(self, before_ms: int) -> None:
        """Note that rows of panes which begin before *before_ms* may be gone."""
        self._whole_from_ms = before_ms

    def add(self, rows: FamilyRows) -> None:
        """Take the pane rows of one family in one delta frame, if it has any.

        Raises:
            InvariantError: They are not whole; what else is wrong with them shows when they are settled.
        """
        panes = rows.panes
        if panes is None or not len(panes):
            return
        panes.check()
        if self._floor:
            panes = _from(panes, len(rows.keys), self._floor)
            if not len(panes):
                return
        family = self._families.get(rows.family)
        if family is None:
            family = self._families[rows.family] = _Family()
        family.add(rows.keys, panes)

    def settle(self) -> None:
        """Add up what waits."""
        for family in self._families.values():
            family.settle()

    def _panes(self) -> set[int]:
        return {index for family in self._families.values() for index in family.panes}

    @property
    def is_late(self) -> bool:
        """Whether there are rows of closed panes."""
        return any(index < self._closed for index in self._panes())

    def until(self, limit_ms: int, most_panes: int) -> int:
        """Return what would be closed by a roll-up at *limit_ms*, of *most_panes* at most."""
        end = limit_ms // PUBLISHED_MS
        held = [index for index in self._panes() if index >= self._closed]
        if held:
            end = min(end, min(held) + most_panes)
        return max(self._closed, end) * PUBLISHED_MS

    def closes(self, until_ms: int) -> bool:
        """Tell whether a roll-up up to *until_ms* has a pane to close: else it is not worth one."""
        return any(self._closed <= index < until_ms // PUBLISHED_MS for index in self._panes())

    def frames(self, until_ms: int) -> Iterator[bytes]:
        """Yield the frames of a roll-up up to *until_ms*: with them go all rows of earlier panes."""
        self.settle()
        for index in sorted(self._panes()):
            if index < until_ms // PUBLISHED_MS:
                yield from self._frames_of(index)

    def _frames_of(self, index: int) -> Iterator[bytes]:
        start_ms = index * PUBLISHED_MS
        partial = index < self._closed or start_ms < self._whole_from_ms
        gathered: list[FamilyPanes] = []
        count = 0
        for name, family in self._families.items():
            for keys, rows in family.parts(index):
                if gathered and count + len(rows) > FRAME_ROWS:
                    yield encode_panes(start_ms, gathered, partial=partial)
                    gathered, count = [], 0
                gathered.append(FamilyPanes(name, keys, rows))
                count += len(rows)
        if gathered:
            yield encode_panes(start_ms, gathered, partial=partial)

    def rolled_up(self, until_ms: int) -> None:
        """Forget what was committed."""
        self._closed = until_ms // PUBLISHED_MS
        for name, family in list(self._families.items()):
            family.close(self._closed)
            if family.is_empty:
                del self._families[name]


def _from(rows: PaneRows, keys: int, floor: int) -> PaneRows:
    """Return the rows of panes from *floor* on."""
    columns = rows.columns(keys)
    wanted = columns.pane >= floor
    if wanted.all():
        return rows
    return PaneRows.of(
        columns.key_index[wanted],
        kind_code(columns.kind[wanted]),
        columns.pane[wanted],
        list(columns.sums[:, wanted]),
    )
