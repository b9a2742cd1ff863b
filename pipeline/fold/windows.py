"""Sliding windows: running sums by slot over the panes of one length.

Window w at time t holds the panes of length g(w) whose start lies in ``(p - w, p]`` with
``p = t - t mod g(w)``: the open pane counts.  Panes here are named by their index, start / g(w).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.pane import BASE_PANE_MS, pane_length
from pipeline.fold.columns import longer
from pipeline.fold.panes import Pane


class Tier:
    """The windows that are made of panes of one length, and those panes.

    A pane is held from its first row on, also before it opens, until it is outside the longest
    window; it is part of a window's running sums exactly while the window holds it.
    """

    def __init__(self, length_ms: int, windows_ms: Sequence[int], sums: int) -> None:
        """Take the pane length, the windows made of it and the number of sums."""
        self.windows_ms = tuple(windows_ms)
        self.length_ms = length_ms
        self._base_panes = length_ms // BASE_PANE_MS
        self._spans = tuple(window // length_ms for window in windows_ms)
        self._longest = max(self._spans)
        self._newest = 0
        self._panes: dict[int, Pane] = {}
        self.floor = 0
        """Rows of earlier panes are left out: they are counted from elsewhere."""
        self.closed: int | None = None
        """What is added to earlier panes is late: it is also gathered in :attr:`late`."""
        self.late: dict[int, Pane] = {}
        self.given_up = -1
        """The newest pane that was left behind with rows which are in no frame."""
        self.running: NDArray[np.int64] = np.zeros((len(self._spans), sums, 0), np.int64)
        """Sums by window, sum and slot."""

    def grow(self, capacity: int) -> None:
        """Make room for *capacity* slots, more than before."""
        self.running = longer(self.running, capacity)

    def index(self, base_pane: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the pane that each base pane lies in."""
        return base_pane // self._base_panes if self._base_panes > 1 else base_pane

    def held(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which panes are not yet outside the longest window."""
        return index > self._newest - self._longest

    def add(
        self, index: NDArray[np.int64], slots: NDArray[np.int32], sums: NDArray[np.int64], size: int
    ) -> None:
        """Add rows to their panes and windows; *size* is above every slot.

        Rows of panes that are outside the longest window are left out.
        """
        if len(index) == 0:
            return
        oldest = max(self._newest - self._longest, self.floor - 1)
        if index.min() <= oldest:
            held = index > oldest
            self.leave_out(index[~held])
            index, slots, sums = index[held], slots[held], sums[:, held]
        for running, span in zip(self.running, self._spans, strict=True):
            shown = (index > self._newest - span) & (index <= self._newest)
            everything = shown.all()
            places = slots if everything else slots[shown]
            for column, values in zip(running, sums, strict=True):
                np.add.at(column, places, values if everything else values[shown])
        self._keep(self._panes, index, slots, sums, size)
        if self.closed is not None:
            late = index < self.closed
            if late.any():
                self._keep(self.late, index[late], slots[late], sums[:, late], size)

    def leave_out(self, index: NDArray[np.int64]) -> None:
        """Note rows that are not taken, as they lie in panes that no window shows any more."""
        counted = index[index >= self.floor]
        if len(counted):
            self.given_up = max(self.given_up, int(counted.max()))

    def misses(self, now_ms: int) -> bool:
        """Tell whether a window would show at *now_ms* what was given up."""
        return self.given_up > now_ms // self.length_ms - self._longest

    def pane(self, index: int, *, late: bool) -> Pane | None:
        """Return what one pane holds, all of it or what came late, if anything."""
        return (self.late if late else self._panes).get(index)

    def rows(self, index: int) -> int:
        """Return about how many rows one pane holds."""
        pane = self._panes.get(index)
        return 0 if pane is None else pane.rows

    def between(self, start: int, end: int) -> list[int]:
        """Return the panes that hold something and lie in ``[start, end)``, oldest first."""
        return sorted(index for index in self._panes if start <= index < end)

    def oldest(self, start: int) -> int | None:
        """Return the first pane from *start* on that holds something."""
        return min((index for index in self._panes if index >= start), default=None)

    def advance(self, now_ms: int, size: int) -> list[tuple[int, Pane]]:
        """Move the windows to *now_ms*; return the panes that no window can show any more."""
        before, self._newest = self._newest, now_ms // self.length_ms
        if self._newest == before:
            return []
        for index, pane in self._panes.items():
            for running, span in zip(self.running, self._spans, strict=True):
                was = before - span < index <= before
                shown = self._newest - span < index <= self._newest
                if shown and not was:
                    pane.add_to(running)
                elif was and not shown:
                    pane.subtract_from(running)
            if before <= index < self._newest:
                pane.merge(size)
        gone = sorted(index for index in self._panes if index <= self._newest - self._longest)
        written = self.floor if self.closed is None else self.closed
        for index in gone:
            late = self.late.pop(index, None)  # its slots die with it, and no window can show it
            if late is not None or index >= written:
                self.given_up = max(self.given_up, index)
        return [(index, self._panes.pop(index)) for index in gone]

    def history(
        self, row: int, types: NDArray[np.uint8], wanted: NDArray[np.bool_] | None
    ) -> dict[int, NDArray[np.int64]]:
        """Return the sums by event type of each pane held, by its start; see :meth:`Pane.counted`."""
        return {
            index * self.length_ms: pane.counted(row, types, wanted)
            for index, pane in self._panes.items()
            if index <= self._newest
        }

    @staticmethod
    def _keep(
        panes: dict[int, Pane],
        index: NDArray[np.int64],
        slots: NDArray[np.int32],
        sums: NDArray[np.int64],
        size: int,
    ) -> None:
        if len(index) == 0:
            return
        first = int(index.min())
        if first == index.max():
            panes.setdefault(first, Pane()).append(slots, sums, size)
            return
        # A radix sort: 5 ns a row instead of 90.  Panes 65,536 apart may come in turns: each
        # stretch is still of one pane.
        order = np.argsort((index - first).astype(np.uint16), kind="stable")
        index, slots, sums = index[order], slots[order], sums[:, order]
        edges = np.flatnonzero(np.diff(index)) + 1
        starts = [0, *edges.tolist()]
        for start, end in zip(starts, [*starts[1:], len(index)], strict=True):
            pane = panes.setdefault(int(index[start]), Pane())
            # Copies: a slice would keep the columns of all panes alive with the last one.
            pane.append(slots[start:end].copy(), sums[:, start:end].copy(), size)


def tiers(windows_ms: Sequence[int], sums: int) -> list[Tier]:
    """Return the tiers that show these windows, finest first.

    The coarsest one outlives the others: its longest window is longer by at least the
    difference that rounding to its panes can make.

    Raises:
        ValueError: A window that :func:`pipeline.core.pane.pane_length` refuses, one twice, or none.
    """
    if not windows_ms or len(set(windows_ms)) < len(windows_ms):
        raise ValueError("at least one window, each once")
    by_length: dict[int, list[int]] = {}
    for window in sorted(windows_ms):
        by_length.setdefault(pane_length(window), []).append(window)
    return [Tier(length, windows, sums) for length, windows in sorted(by_length.items())]
