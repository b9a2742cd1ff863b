"""One family in one partition: frames in, running sums by slot out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.core.delta import DistinctRows, FamilyRows
from pipeline.core.families import Family, Sum
from pipeline.core.pane import BASE_PANE_MS
from pipeline.fold.columns import Pending, Rows, longer
from pipeline.fold.distincts import DistinctFold, distinct_windows
from pipeline.fold.pairs import Columns
from pipeline.fold.slots import Groups, Slots
from pipeline.fold.windows import Tier, tiers

SETTLE_ROWS: Final = 8192
"""Rows gathered before they are folded unasked: enough for numpy, 5 ms of work."""
FRAME_ROWS: Final = 5_000
"""Rows of one family in one roll-up frame."""
FRAME_BYTES: Final = 4 << 20
"""Bytes of keys in one roll-up frame: half of what a topic takes."""
FRAME_VALUES: Final = 50_000
"""Values of one distinct count in one frame; more are told with rows that add nothing."""

History: TypeAlias = dict[int, NDArray[np.int64]]
"""Sums by event type number, by the start of a pane in ms."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a complete partition holds of a family.

    Columns by slot unless said; free slots have key number 0 and zero sums.  They are the
    board's own columns, valid until its next call: copy what must last.
    """

    partition: int
    epoch: int
    """Differs each time the partition is opened."""
    names: Sequence[str]
    """Joined keys by key number; empty where the number is free."""
    group: NDArray[np.int32]
    """By key number: the group of its bounded fields."""
    alive: NDArray[np.bool_]
    """By key number: whether it is in use."""
    key: NDArray[np.int32]
    """Key number."""
    event_type: NDArray[np.uint8]
    """Event type number."""
    running: Mapping[int, NDArray[np.int64]]
    """By window in ms: one line per sum of the family."""
    last: NDArray[np.int64] | None
    """Newest event time in ms, where the family shows it."""
    distincts: Mapping[str, DistinctFold]
    """By name: the distinct counts of the family."""
    slots: Slots

    def distinct(self, name: str, window_ms: int) -> NDArray[np.int64]:
        """Return the distinct count called *name* by key number; above the limit, more than it."""
        return self.distincts[name].counts(window_ms, len(self.names))

    def number(self, key: str) -> int | None:
        """Return the number of a joined key, or None if it is not in use."""
        return self.slots.number(key)


@dataclass(frozen=True, slots=True)
class PaneRows:
    """What one pane of a family holds: a row per key and event type."""

    names: Sequence[str]
    """Joined keys by key number."""
    key: NDArray[np.int32]
    """Key number."""
    event_type: NDArray[np.uint8]
    """Event type number."""
    sums: Mapping[Sum, NDArray[np.int64]]


class FamilyFold:
    """The panes and windows of one family in one partition.

    Rows are gathered by :meth:`add` and folded by :meth:`settle`; the order and the grouping
    of rows do not show in the result.
    """

    def __init__(self, family: Family, windows_ms: Sequence[int], groups: Groups) -> None:
        """Show *family* over these windows; *groups* is shared by its partitions."""
        self._name, self._sums = family.name, family.sums
        self._slots = Slots(groups)
        self._tiers = tiers(windows_ms, len(family.sums))
        self._pending = Pending(
            len(family.fields),
            family.sums,
            [one.name for one in family.distincts],
            with_last=family.last_event is not None,
        )
        self._distincts = {
            one.name: DistinctFold(distinct_windows(windows_ms)) for one in family.distincts
        }
        self._newest: NDArray[np.int64] = np.zeros(0, np.int64)
        """By slot: its newest pane of the coarsest tier, with which it dies.

        What a dead slot leaves here is older than every pane that is still held.
        """
        self._last: NDArray[np.int64] = np.zeros(0, np.int64)
        self._with_last = family.last_event is not None

    def add(self, rows: FamilyRows, now_ms: int) -> None:
        """Take the rows of one frame."""
        self._pending.add(rows)
        if len(self._pending) >= SETTLE_ROWS:
            self.settle(now_ms)

    def check(self) -> None:
        """Make sure that nothing which :meth:`add` left waiting can fail later, for a reader.

        Raises:
            InvariantError: A row or a key is not of this family.
        """
        self._pending.check()

    def settle(self, now_ms: int) -> None:
        """Move to *now_ms* and fold the rows that are waiting."""
        self._advance(now_ms)
        if len(self._pending):
            self._fold(self._pending.take())

    @property
    def tiers(self) -> Sequence[Tier]:
        """Return the tiers, finest first."""
        return self._tiers

    def rows_of(self, length_ms: int, index: int, *, late: bool) -> Iterator[FamilyRows]:
        """Return the rows of one pane as frames hold them, or of what came late to it.

        Of distinct counts the pairs last seen in the pane go with the rows of their keys: with late
        rows those of their keys again, which changes nothing.
        """
        tier = next(tier for tier in self._tiers if tier.length_ms == length_ms)
        pane = tier.pane(index, late=late)
        if pane is None:
            return
        slots, sums = pane.content(self._slots.size)
        seen = self._seen(length_ms, index, slots)
        for part, start in enumerate(range(0, len(slots), FRAME_ROWS)):
            if tier.pane(index, late=late) is not pane:  # it left the windows meanwhile
                return
            inside = slice(start, start + FRAME_ROWS)
            values = {name: parts[part] for name, parts in seen.items()}
            base_pane = index * (length_ms // BASE_PANE_MS)
            yield from self._rows(slots[inside], sums[:, inside], base_pane, values)

    def pane(self, length_ms: int, start_ms: int) -> PaneRows:
        """Return what the pane of this length and start holds so far."""
        tier = next(tier for tier in self._tiers if tier.length_ms == length_ms)
        pane = tier.pane(start_ms // length_ms, late=False)
        if pane is None:
            nothing = np.zeros(0, np.int64)
            return PaneRows(
                (),
                np.zeros(0, np.int32),
                np.zeros(0, np.uint8),
                dict.fromkeys(self._sums, nothing),
            )
        slots, sums = pane.content(self._slots.size)
        return PaneRows(
            self._slots.names,
            self._slots.key[slots],
            self._slots.event_type[slots],
            dict(zip(self._sums, sums, strict=True)),
        )

    def last_seen(self, name: str, start_ms: int, end_ms: int) -> dict[str, int]:
        """Return by joined key how many values of a distinct count were last seen in this time."""
        counts = np.bincount(self._distincts[name].seen(start_ms, end_ms).key)
        names = self._slots.names
        return {names[number]: int(counts[number]) for number in np.flatnonzero(counts).tolist()}

    def _seen(
        self, length_ms: int, index: int, slots: NDArray[np.int32]
    ) -> dict[str, list[Columns]]:
        """Return by distinct count what was last seen in a pane, for each part of its slots."""
        told = {
            name: held.seen(index * length_ms, (index + 1) * length_ms)
            for name, held in self._distincts.items()
            if held.closed_length_ms == length_ms
        }
        if not told:
            return {}
        parts = -(-len(slots) // FRAME_ROWS)
        # Each key's first part: of equal indices the last assignment stays.
        part_of = np.full(len(self._slots.names), -1)
        part_of[self._slots.key[slots[::-1]]] = np.arange(len(slots))[::-1] // FRAME_ROWS
        found: dict[str, list[Columns]] = {}
        for name, pairs in told.items():
            place = part_of[pairs.key]
            order = np.argsort(place, kind="stable")
            edges = np.searchsorted(place[order], np.arange(parts + 1)).tolist()
            found[name] = [pairs.at(order[edges[part] : edges[part + 1]]) for part in range(parts)]
        return found

    def _rows(
        self,
        slots: NDArray[np.int32],
        sums: NDArray[np.int64],
        base_pane: int,
        values: Mapping[str, Columns],
    ) -> Iterator[FamilyRows]:
        numbers, key_index = np.unique(self._slots.key[slots], return_inverse=True)
        keys = [self._slots.names[number] for number in numbers.tolist()]
        if len(slots) > 1 and most_bytes(keys) > FRAME_BYTES:
            half = len(slots) // 2
            early = self._slots.key[slots[:half]]
            told = {name: np.isin(pairs.key, early) for name, pairs in values.items()}
            for inside, chosen in (
                (slice(half), told),
                (slice(half, None), {name: ~mask for name, mask in told.items()}),
            ):
                some = {name: pairs.only(chosen[name]) for name, pairs in values.items()}
                yield from self._rows(slots[inside], sums[:, inside], base_pane, some)
            return
        most = max((len(pairs.key) for pairs in values.values()), default=0)
        for start in range(0, max(most, 1), FRAME_VALUES):
            rows = FamilyRows.of(
                self._name,
                keys,
                key_index,
                self._slots.event_type[slots],
                np.full(len(slots), base_pane),
                dict(zip(self._sums, sums if start == 0 else np.zeros_like(sums), strict=True)),
                self._last[slots] if self._with_last else None,
            )
            for name, pairs in values.items():
                part = pairs.at(np.arange(start, min(start + FRAME_VALUES, len(pairs.key))))
                rows.distincts[name] = DistinctRows.of(
                    np.searchsorted(numbers, part.key),
                    np.full(len(part.key), base_pane),
                    part.value(),
                )
            yield rows

    def share(self, partition: int, epoch: int) -> Share:
        """Return the present columns."""
        slots = self._slots
        size, keys = slots.size, len(slots.names)
        return Share(
            partition=partition,
            epoch=epoch,
            names=slots.names,
            group=slots.group[:keys],
            alive=slots.uses[:keys] > 0,
            key=slots.key[:size],
            event_type=slots.event_type[:size],
            running={
                window: tier.running[place, :, :size]
                for tier in self._tiers
                for place, window in enumerate(tier.windows_ms)
            },
            last=self._last[:size] if self._with_last else None,
            distincts=self._distincts,
            slots=slots,
        )

    def history(self, window_ms: int, row: int, key: str | None) -> History:
        """Return sum number *row* by event type of each pane that the window is made of.

        Args:
            window_ms: One of the windows: says how long the panes are.
            row: Which of the family's sums.
            key: Of this joined key; None: of all keys.
        """
        slots = self._slots
        wanted = None
        if key is not None:
            number = slots.number(key)
            if number is None:
                return {}
            wanted = slots.key[: slots.size] == number
        tier = next(tier for tier in self._tiers if window_ms in tier.windows_ms)
        return tier.history(row, slots.event_type[: slots.size], wanted)

    def _fold(self, rows: Rows) -> None:
        coarsest = self._tiers[-1]
        held = coarsest.held(coarsest.index(rows.pane))
        if not held.all():
            for tier in self._tiers:
                tier.leave_out(tier.index(rows.pane[~held]))
            rows = rows.only(held)
        rows = rows.with_used_keys()
        slots = self._slots.place(rows.keys, rows.key_index, rows.event_type)
        self._grow()
        for tier in self._tiers:
            tier.add(tier.index(rows.pane), slots, rows.sums, self._slots.size)
        np.maximum.at(self._newest, slots, coarsest.index(rows.pane))
        if rows.last is not None:
            np.maximum.at(self._last, slots, rows.last)
        if self._distincts:
            number = np.zeros(len(rows.keys), np.int32)
            number[rows.key_index] = self._slots.key[slots]
            for distinct, values in zip(self._distincts.values(), rows.distincts, strict=True):
                distinct.add(number[values.key_index], values.pane, values.value)

    def _advance(self, now_ms: int) -> None:
        gone = [tier.advance(now_ms, self._slots.size) for tier in self._tiers][-1]
        for index, pane in gone:
            slots = pane.slots()
            dead = slots[self._newest[slots] <= index]
            if self._with_last:
                self._last[dead] = 0
            self._slots.release(dead)
        for distinct in self._distincts.values():
            distinct.advance(now_ms)

    def _grow(self) -> None:
        capacity = self._slots.capacity
        if capacity > len(self._newest):
            self._newest = longer(self._newest, capacity)
            if self._with_last:
                self._last = longer(self._last, capacity)
            for tier in self._tiers:
                tier.grow(capacity)


def most_bytes(keys: Sequence[str]) -> int:
    """Return how many bytes *keys* take at most, without encoding them."""
    return 4 * sum(map(len, keys))
