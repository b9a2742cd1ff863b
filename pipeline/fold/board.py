"""The board: every assigned partition's panes and windows, folded from ``mail.deltas``.

The log of frames is the state.  A partition begins empty, re-folds the log from the longest
window on, and is shown once it is complete; what it shows depends on the frames and on the
highest time seen alone, never on how they were read.

Pure: reads no clock, does no I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.core.batch import Record
from pipeline.core.delta import decode_frame
from pipeline.core.errors import InvariantError
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import DISTINCT_LIMIT, FAMILIES, KEY_SEPARATOR, Family, Sum
from pipeline.core.rollup import Cut
from pipeline.fold.log_time import LogTime
from pipeline.fold.publishing import Publishing
from pipeline.fold.rolling import Rolling
from pipeline.fold.share import FamilyFold, History, PaneRows, Share
from pipeline.fold.slots import Groups
from pipeline.fold.windows import tiers


def schema_of(windows_ms: Sequence[int], families: Sequence[Family]) -> str:
    """Return a fingerprint of what the roll-up frames of a board of these depend on."""
    table = [
        (
            family.name,
            family.fields,
            [*family.sums],
            [(one.name, one.field) for one in family.distincts],
            family.last_event is not None,
        )
        for family in families
    ]
    return xxhash.xxh3_64_hexdigest(repr((sorted(table), sorted(windows_ms))).encode())


@dataclass(slots=True)
class _Partition:
    epoch: int
    families: dict[str, FamilyFold]
    rolling: Rolling
    complete: bool = False
    watermark_ms: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """One family over one window: columns of equal length, a row per key and event type."""

    keys: list[tuple[str, ...]] = field(default_factory=list)
    event_types: list[str] = field(default_factory=list)
    sums: dict[Sum, NDArray[np.int64]] = field(default_factory=dict)


class Board:
    """Phase 2: implements ``core.batch.RollupStep``, and is read by the exporter."""

    def __init__(
        self,
        windows_ms: Sequence[int],
        families: Sequence[Family] = FAMILIES,
        *,
        publishes: bool = False,
    ) -> None:
        """Show these windows of these families.

        Whoever *publishes* rolls up, too: panes for consumers are gathered until they are in frames.

        Raises:
            ValueError: No window, one twice, or one not made of whole panes.
        """
        tiers(windows_ms, 1)
        self.windows_ms = tuple(sorted(windows_ms))
        self.families = tuple(families)
        self._publishes = publishes
        self._groups = {family.name: Groups(family) for family in families}
        self._partitions: dict[int, _Partition] = {}
        self._epoch = 0
        self._now_ms = 0
        self._log_time = LogTime()

    @property
    def now_ms(self) -> int:
        """Return the highest time seen: the clock of all windows."""
        return self._now_ms

    @property
    def partitions(self) -> Mapping[int, bool]:
        """Return the open partitions, and whether each is complete."""
        return {number: held.complete for number, held in self._partitions.items()}

    def open(self, partition: int) -> None:
        """Begin a partition with empty panes; it re-folds and is not shown."""
        self._epoch += 1
        families = {
            family.name: FamilyFold(family, self.windows_ms, self._groups[family.name])
            for family in self.families
        }
        self._partitions[partition] = _Partition(self._epoch, families, self._rolling(families))

    def _rolling(self, families: Mapping[str, FamilyFold]) -> Rolling:
        return Rolling(families, Publishing() if self._publishes else None)

    def fold(self, partition: int, records: Sequence[Record], now_ms: int) -> None:
        """Add the frames to the partition's panes.

        Families that this program does not know are skipped: the table may shrink.  What is wrong
        with a frame shows here, never to a reader, and closes the partition: its sums are undefined.

        Raises:
            FrameVersionError: A frame is newer than this program.
            InvariantError: The partition is not open, or a record is no delta frame.
        """
        self.advance(now_ms)
        held = self._held(partition)
        try:
            self._add(held, records)
        except InvariantError:
            self.close(partition)
            raise

    def complete(self, partition: int) -> None:
        """Show the partition: its fold has reached the end that was read at assignment.

        Raises:
            InvariantError: The partition is not open.
        """
        held = self._held(partition)
        held.rolling.pass_cut(self._now_ms)
        held.complete = True

    # -- roll-ups

    @property
    def schema(self) -> str:
        """Return a fingerprint of what frames depend on: the families and the windows."""
        return schema_of(self.windows_ms, self.families)

    def restore(self, partition: int, frames: Sequence[bytes], now_ms: int) -> None:
        """Add roll-up frames to an open partition, before any delta frame.

        Raises:
            FrameVersionError: A frame is newer than this program.
            InvariantError: The partition is not open, or a value is no frame.
        """
        self.advance(now_ms)
        held = self._held(partition)
        try:
            held.rolling.restore(frames, self._now_ms)
        except InvariantError:
            self.close(partition)
            raise

    def follow(self, partition: int, cut: Cut) -> None:
        """Go on with delta frames after the roll-ups of *cut* were restored."""
        self._held(partition).rolling.follow(cut, self._now_ms)

    def publish_from(self, partition: int, cut: Cut) -> None:
        """Begin an epoch of windows; panes for consumers go on where *cut* closed them."""
        self._held(partition).rolling.publish_from(cut)

    def lack(self, partition: int, before_ms: int) -> None:
        """Note that deltas of panes which begin before *before_ms* may be gone."""
        self._held(partition).rolling.lack(before_ms)

    def closing(
        self, partition: int, now_ms: int, monotonic_ms: int, *, caught_up: bool, late: bool
    ) -> Mapping[int, int] | None:
        """Return ``closed_until`` of a roll-up that is due; see ``core.batch.RollupStep``."""
        self.advance(now_ms)
        log_ms = self._log_time.at(self._now_ms, monotonic_ms)
        held = self._held(partition)
        return held.rolling.closing(self._now_ms, log_ms, caught_up=caught_up, late=late)

    def rollup(self, partition: int, until: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """Return the frames of a roll-up, each with its pane length."""
        return self._held(partition).rolling.frames(until)

    def rolled_up(self, partition: int, until: Mapping[int, int]) -> bool:
        """Take over what was committed; return whether late rows were in it."""
        return self._held(partition).rolling.rolled_up(until)

    def begun(self, partition: int, family: str, length_ms: int) -> list[int]:
        """Return the starts of the panes with rows of the family that have begun, oldest first."""
        fold = self._held(partition).families[family]
        fold.settle(self._now_ms)
        tier = next(tier for tier in fold.tiers if tier.length_ms == length_ms)
        return [index * length_ms for index in tier.between(0, self._now_ms // length_ms + 1)]

    def pane(self, partition: int, family: str, length_ms: int, start_ms: int) -> PaneRows:
        """Return what one pane of a family holds so far."""
        return self._held(partition).families[family].pane(length_ms, start_ms)

    def last_seen(
        self, partition: int, family: str, name: str, start_ms: int, end_ms: int
    ) -> dict[str, int]:
        """Return by joined key how many values of a distinct count were last seen in this time."""
        return self._held(partition).families[family].last_seen(name, start_ms, end_ms)

    def close(self, partition: int) -> None:
        """Drop the partition's panes, if it is open."""
        self._partitions.pop(partition, None)

    def advance(self, now_ms: int) -> None:
        """Let time pass; it never goes back.  Windows follow when they are next read or folded."""
        self._now_ms = max(self._now_ms, now_ms)

    def watermark_ms(self, partition: int) -> int:
        """Return the highest ``received`` that the partition's frames carried; 0 if none did.

        Raises:
            InvariantError: The partition is not open.
        """
        return self._held(partition).watermark_ms

    def settle(self, family: str, partition: int) -> None:
        """Fold what waits of one family in one partition, if it is open: a reader's unit of work."""
        held = self._partitions.get(partition)
        if held is not None:
            held.families[family].settle(self._now_ms)

    def shares(self, family: str, without: Collection[int] = ()) -> list[Share]:
        """Return what each complete partition, but those *without*, holds of a family."""
        shares = []
        for number, held in sorted(self._partitions.items()):
            if held.complete and number not in without:
                fold = held.families[family]
                fold.settle(self._now_ms)
                shares.append(fold.share(number, held.epoch))
        return shares

    def history(self, family: Family, window_ms: int, sum_: Sum, key: str | None) -> History:
        """Return a sum by event type of each pane that the window is made of, by its start.

        Args:
            family: Whose panes.
            window_ms: One of the windows: says how long the panes are.
            sum_: One of the family's sums.
            key: Of this joined key; None: of all keys.
        """
        row = family.sums.index(sum_)
        total: History = {}
        for held in self._partitions.values():
            if held.complete:
                fold = held.families[family.name]
                fold.settle(self._now_ms)
                for start, counted in fold.history(window_ms, row, key).items():
                    total[start] = total.get(start, 0) + counted
        return total

    def groups(self, family: str) -> Sequence[tuple[str, ...]]:
        """Return the values of the family's bounded fields, by :attr:`Share.group`."""
        return self._groups[family].values

    def totals(self, family: Family, window_ms: int) -> Totals:
        """Return every key and event type of the family that the window holds something of."""
        totals = Totals(sums={name: np.zeros(0, np.int64) for name in family.sums})
        for share in self.shares(family.name):
            running = share.running[window_ms]
            rows = np.flatnonzero(running.any(axis=0))
            names = share.names
            totals.keys.extend(
                tuple(names[number].split(KEY_SEPARATOR)) for number in share.key[rows].tolist()
            )
            totals.event_types.extend(
                EVENT_TYPES[number] for number in share.event_type[rows].tolist()
            )
            for name, column in zip(family.sums, running, strict=True):
                totals.sums[name] = np.concatenate([totals.sums[name], column[rows]])
        return totals

    def distinct(self, family: Family, name: str, window_ms: int) -> dict[tuple[str, ...], int]:
        """Return every key's distinct count called *name* where it is above zero, up to the limit."""
        found: dict[tuple[str, ...], int] = {}
        for share in self.shares(family.name):
            counts = np.minimum(share.distinct(name, window_ms), DISTINCT_LIMIT)
            for number in np.flatnonzero(counts).tolist():
                found[tuple(share.names[number].split(KEY_SEPARATOR))] = int(counts[number])
        return found

    def _held(self, partition: int) -> _Partition:
        held = self._partitions.get(partition)
        if held is None:
            raise InvariantError(f"partition {partition} of the deltas is not open")
        return held

    def _add(self, held: _Partition, records: Sequence[Record]) -> None:
        families = held.families
        for record in records:
            frame = decode_frame(record.value or b"")
            held.rolling.reach(record.offset, self._now_ms)
            written_ms = record.timestamp or frame.watermark_ms
            held.rolling.hear(frame, written_ms)
            self._log_time.hear(written_ms)
            held.watermark_ms = max(held.watermark_ms, frame.watermark_ms)
            for rows in frame.families:
                held.rolling.publish(rows)
                family = families.get(rows.family)
                if family is not None:
                    family.add(rows, self._now_ms)
        for family in families.values():
            family.check()
