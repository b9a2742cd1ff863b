"""What one pane of one family holds: sums by slot, kept until the pane leaves every window."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.core.event import EVENT_TYPES

_LOOSE_CHUNKS: Final = 32
"""Chunks are small in steady state (one a second): each costs 300 bytes beside its rows."""
_LOOSE_ROWS: Final = 1024


class Pane:
    """Chunks of (slot, sums), merged now and then so that each slot stands there about once.

    Merging when the loose rows outnumber the merged ones keeps memory within twice the pane's
    distinct slots and costs each row a constant number of copies.
    """

    __slots__ = ("_chunks", "_loose", "_merged")

    def __init__(self) -> None:
        self._chunks: list[tuple[NDArray[np.int32], NDArray[np.int64]]] = []
        self._loose = 0
        self._merged = 0

    @property
    def rows(self) -> int:
        """Return how many rows are held: at least one for each slot, at most about two."""
        return self._merged + self._loose

    def append(self, slots: NDArray[np.int32], sums: NDArray[np.int64], size: int) -> None:
        """Add rows; *size* is above every slot of the pane."""
        self._chunks.append((slots, sums))
        self._loose += len(slots)
        if self._loose >= max(_LOOSE_ROWS, self._merged) or len(self._chunks) >= _LOOSE_CHUNKS:
            self.merge(size)

    def add_to(self, running: NDArray[np.int64]) -> None:
        """Add the pane to running sums (sums x slots)."""
        for slots, sums in self._chunks:
            for column, values in zip(running, sums, strict=True):
                np.add.at(column, slots, values)

    def subtract_from(self, running: NDArray[np.int64]) -> None:
        """Take the pane out of running sums again."""
        for slots, sums in self._chunks:
            for column, values in zip(running, sums, strict=True):
                np.subtract.at(column, slots, values)

    def counted(
        self, row: int, types: NDArray[np.uint8], wanted: NDArray[np.bool_] | None
    ) -> NDArray[np.int64]:
        """Return the sums of line *row* by event type number.

        Args:
            row: Which sum.
            types: Event type number by slot.
            wanted: By slot, whether it counts; None: all do.
        """
        counted = np.zeros(len(EVENT_TYPES), np.int64)
        for slots, sums in self._chunks:
            values = sums[row]
            if wanted is not None:
                chosen = wanted[slots]
                slots, values = slots[chosen], values[chosen]  # noqa: PLW2901  the chosen ones of them
            np.add.at(counted, types[slots], values)
        return counted

    def slots(self) -> NDArray[np.int32]:
        """Return the distinct slots of the pane."""
        return np.unique(np.concatenate([slots for slots, _ in self._chunks]))

    def content(self, size: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the distinct slots and their sums; *size* is above every slot of the pane."""
        self.merge(size)
        return self._chunks[0]

    def merge(self, size: int) -> None:
        """Add up the rows of equal slot; *size* is above every slot of the pane."""
        if len(self._chunks) > 1 or self._loose > 0:
            slots = np.concatenate([slots for slots, _ in self._chunks])
            sums = np.concatenate([sums for _, sums in self._chunks], axis=1)
            # A pass over all slots instead of a sort: 5 ns a row where np.unique takes 100.
            place = np.zeros(size, np.intp)
            place[slots] = 1
            distinct = np.flatnonzero(place).astype(np.int32)
            place[distinct] = np.arange(len(distinct))
            merged = np.zeros((len(sums), len(distinct)), np.int64)
            for column, values in zip(merged, sums, strict=True):
                np.add.at(column, place[slots], values)
            self._chunks = [(distinct, merged)]
            self._loose, self._merged = 0, len(distinct)
