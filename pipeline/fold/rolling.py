"""The roll-up state of one partition: what is closed, what is due, and which rows count where.

Every tier counts each row once.  After a restart a tier is made of the frames of its closed panes,
of delta records before the cut in panes that were not closed, and of all records from the cut on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pipeline.core.delta import DeltaFrame, FamilyRows
from pipeline.core.errors import InvariantError
from pipeline.core.pane import MINUTE_MS
from pipeline.core.rollup import GRACE_MS, PANES_TIER, TIERS_MS, Cut, decode_rollup, encode_rollup
from pipeline.fold.publishing import Publishing
from pipeline.fold.share import FRAME_BYTES, FRAME_ROWS, FamilyFold, most_bytes
from pipeline.fold.windows import Tier

HEARD_MS: Final = MINUTE_MS
"""A source partition that was not heard of for this long holds no pane open."""
MOST_PANES: Final = 12
"""Panes of a tier in one roll-up: after a re-fold of the deltas alone there are hundreds to write."""
MOST_ROWS: Final = 250_000
"""Rows of a tier in one roll-up, unless one pane has more: 15 MB that are held, written and committed."""
VALUES_OF_ROW: Final = 8
"""Values of distinct counts that take about as much room in a frame as a row with its key."""
_NEVER: Final = 1 << 62


class Rolling:
    """What is rolled up of the families of one partition."""

    def __init__(
        self, families: Mapping[str, FamilyFold], publishing: Publishing | None = None
    ) -> None:
        """Begin with nothing closed and no cut; with *publishing*, panes for consumers are gathered."""
        self._families = families
        self._publishing = publishing
        tiers = next(iter(families.values())).tiers if families else ()
        self._closed = {tier.length_ms: 0 for tier in tiers if tier.length_ms in TIERS_MS}
        if publishing is not None:
            self._closed[PANES_TIER] = 0
        self._cut_at: int | None = None
        self._heard: dict[tuple[str, int], tuple[int, int]] = {}
        self._stream_ms = 0
        self._looked: int | None = None
        self._count_everything()

    # -- recovering

    def restore(self, values: Iterable[bytes], now_ms: int) -> None:
        """Add frames, each to its own tier."""
        for value in values:
            frame = decode_rollup(value)
            self._turn(
                {tier: 0 if tier == frame.length_ms else _NEVER for tier in self._lengths()},
                now_ms,
            )
            for rows in frame.families:
                family = self._families.get(rows.family)
                if family is not None:
                    family.add(rows, now_ms)
        for family in self._families.values():
            family.check()

    def follow(self, cut: Cut, now_ms: int) -> None:
        """Go on with delta records; those before the cut count only in what is not closed."""
        lengths = {length for length in cut.closed_until if length != PANES_TIER}
        if lengths != set(self._closed) - {PANES_TIER}:
            raise InvariantError("a cut of other tiers")
        self._closed.update((length, cut.closed_until[length]) for length in lengths)
        self._turn(self._closed, now_ms)
        for tier in self._tiers():
            tier.given_up = -1  # what was restored is in frames
        self.publish_from(cut)

    def publish_from(self, cut: Cut) -> None:
        """Publish only what *cut* has not closed; alone, if the windows begin anew."""
        self._cut_at = cut.deltas_end
        if self._publishing is not None:
            self._closed[PANES_TIER] = cut.panes_until
            self._publishing.follow(cut.panes_until)

    def lack(self, before_ms: int) -> None:
        """Note that rows of panes which begin before *before_ms* may be gone."""
        if self._publishing is not None:
            self._publishing.lack(before_ms)

    def reach(self, offset: int, now_ms: int) -> None:
        """Prepare for the delta record at *offset*."""
        if self._cut_at is not None and offset >= self._cut_at:
            self.pass_cut(now_ms)

    def pass_cut(self, now_ms: int) -> None:
        """Count every record from now on: everything before the cut has been read."""
        if self._cut_at is not None:
            self._cut_at = None
            self._settle(now_ms)
            self._count_everything()
            if self._publishing is not None:
                self._publishing.pass_cut()

    def publish(self, rows: FamilyRows) -> None:
        """Take the pane rows of one family in one delta frame."""
        if self._publishing is not None:
            self._publishing.add(rows)

    def _lengths(self) -> Iterable[int]:
        return {tier.length_ms for family in self._families.values() for tier in family.tiers}

    def _tiers(self) -> Iterator[Tier]:
        for family in self._families.values():
            yield from family.tiers

    def _turn(self, floors: Mapping[int, int], now_ms: int) -> None:
        """Count rows from now on only in panes from these starts on."""
        wanted = {length: floors.get(length, 0) // length for length in self._lengths()}
        if all(
            tier.closed is None and tier.floor == wanted[tier.length_ms] for tier in self._tiers()
        ):
            return
        self._settle(now_ms)
        for tier in self._tiers():
            tier.floor, tier.closed = wanted[tier.length_ms], None

    def _count_everything(self) -> None:
        for tier in self._tiers():
            closed = self._closed.get(tier.length_ms)
            tier.floor = 0
            tier.closed = None if closed is None else closed // tier.length_ms

    def _settle(self, now_ms: int) -> None:
        for family in self._families.values():
            family.settle(now_ms)
        if self._publishing is not None:
            self._publishing.settle()

    # -- rolling up

    def hear(self, frame: DeltaFrame, written_ms: int) -> None:
        """Note how far a source partition has come."""
        source = frame.topic, frame.partition
        watermark_ms, heard_ms = self._heard.get(source, (0, 0))
        self._heard[source] = max(watermark_ms, frame.watermark_ms), max(heard_ms, written_ms)
        self._stream_ms = max(self._stream_ms, written_ms)

    def closing(
        self, now_ms: int, log_ms: int, *, caught_up: bool, late: bool
    ) -> Mapping[int, int] | None:
        """Return ``closed_until`` of a roll-up that is due; see ``core.batch.RollupStep``.

        *log_ms* is the time that the log proves (:class:`~pipeline.fold.log_time.LogTime`).
        """
        limit_ms = self._limit(now_ms, caught_up=caught_up)
        if self._looked == limit_ms // MINUTE_MS:
            return None
        self._settle(now_ms)
        if self._misses(log_ms):
            return None
        publishing = self._publishing
        waiting = self._has_late()
        if late or not waiting:
            until = {
                length: self._until(length, closed, limit_ms)
                for length, closed in self._closed.items()
                if length != PANES_TIER
            }
            due = waiting or any(end != self._closed[length] for length, end in until.items())
            if publishing is not None:
                until[PANES_TIER] = publishing.until(limit_ms, MOST_PANES)
                due = due or publishing.closes(until[PANES_TIER])
            if due:
                return until
        self._looked = limit_ms // MINUTE_MS
        return None

    def _misses(self, log_ms: int) -> bool:
        """Tell whether rows are gone, from memory too, that a worker with a right clock would show.

        A clock that went ahead makes panes old too soon: as long as they are not by the log's own
        time, the position stays, and with it the rows' delta records are read again.
        """
        return any(tier.misses(log_ms) for tier in self._tiers() if tier.length_ms in self._closed)

    def _limit(self, now_ms: int, *, caught_up: bool) -> int:
        """Return the time before which panes must end to be closed."""
        # What waits in the log may be of any age: until it is read, the log's time is the clock.
        clock_ms = now_ms if caught_up else min(now_ms, self._stream_ms)
        heard = [
            watermark_ms
            for watermark_ms, heard_ms in self._heard.values()
            if heard_ms > clock_ms - HEARD_MS
        ]
        return min([clock_ms, *heard]) - GRACE_MS

    def _until(self, length: int, closed_ms: int, limit_ms: int) -> int:
        found = [tier.oldest(closed_ms // length) for tier in self._tiers_of(length)]
        held = [index for index in found if index is not None]
        if not held:
            return closed_ms
        first = min(held)
        end = min(limit_ms // length, first + MOST_PANES)
        if end <= first:
            return closed_ms
        rows = 0
        for index in range(first, end):
            rows += sum(tier.rows(index) for tier in self._tiers_of(length))
            if rows > MOST_ROWS and index > first:
                return index * length
        return end * length

    def frames(self, until: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """Return the frames of a roll-up, each with its pane length."""
        for length, end_ms in until.items():
            if length == PANES_TIER:
                continue
            start, end = self._closed[length] // length, end_ms // length
            tiers = list(self._tiers_of(length))
            closing = {index for tier in tiers for index in tier.between(start, end)}
            late = {index for tier in tiers for index in tier.late}
            for index in sorted(closing):
                yield from self._frames_of(length, index, late=False)
            for index in sorted(late):
                yield from self._frames_of(length, index, late=True)
        if self._publishing is not None:
            for value in self._publishing.frames(until[PANES_TIER]):
                yield PANES_TIER, value

    def _frames_of(self, length: int, index: int, *, late: bool) -> Iterator[tuple[int, bytes]]:
        gathered: list[FamilyRows] = []
        count = 0
        for family in self._families.values():
            for rows in family.rows_of(length, index, late=late):
                size = _size(rows)
                if gathered and count + size > FRAME_ROWS:
                    yield length, encode_rollup(length, gathered)
                    gathered, count = [], 0
                gathered.append(rows)
                count += size
        if gathered:
            yield length, encode_rollup(length, gathered)

    def rolled_up(self, until: Mapping[int, int]) -> bool:
        """Take over what was committed; return whether late rows were in it."""
        late = self._has_late()
        self._closed = dict(until)
        if self._publishing is not None:
            self._publishing.rolled_up(until[PANES_TIER])
        for tier in self._tiers():
            tier.late.clear()
        self._count_everything()
        return late

    def _has_late(self) -> bool:
        """Tell whether there are rows of closed panes."""
        if self._publishing is not None and self._publishing.is_late:
            return True
        return any(tier.late for tier in self._tiers())

    def _tiers_of(self, length: int) -> Iterator[Tier]:
        return (tier for tier in self._tiers() if tier.length_ms == length)


def _size(rows: FamilyRows) -> int:
    """Return as how many of the rows that a frame may have these count."""
    values = sum(map(len, rows.distincts.values())) // VALUES_OF_ROW
    return max(len(rows), most_bytes(rows.keys) * FRAME_ROWS // FRAME_BYTES) + values
