"""The seen-set: which event ids a source partition has held within the horizon.

Ids are 64-bit hashes in sorted arrays, 8 bytes each (a Python set takes 100).  They are kept in
*buckets* of the partition's clock, the highest ``received`` so far: a function of the log, so that
a replay drops the same duplicates.  A bucket that is no longer filled is one array with a bit
filter before it; the oldest is dropped when the clock leaves the horizon behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.seen import HASH, SeenRun, Segment

BUCKETS: Final = 24
"""Buckets of a horizon.  One more is kept, so that the oldest id is never younger than it."""

MERGE_RATIO: Final = 4
"""A run is merged into the one before it unless that is this many times larger."""

FILTER_BITS: Final = 8
"""Bits of filter per id, at least: one look in eight goes on to the search."""

Hashes = NDArray[np.uint64]


class Sealed:
    """The ids of a bucket that is complete: sorted, behind a bit filter over their leading bits."""

    def __init__(self, hashes: Hashes) -> None:
        """Take sorted distinct hashes, at least one."""
        self.hashes = hashes
        bits = max(3, (FILTER_BITS * len(hashes) - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        present = np.zeros(1 << bits, np.bool_)
        present[hashes >> self._shift] = True
        self._filter = np.packbits(present, bitorder="little")

    @property
    def nbytes(self) -> int:
        """Return the memory held."""
        return self.hashes.nbytes + self._filter.nbytes

    def places(self, wanted: Hashes) -> NDArray[np.intp]:
        """Return the places in *wanted* (sorted) of those that are here."""
        slot = wanted >> self._shift
        byte = self._filter[slot >> np.uint64(3)]
        likely = np.flatnonzero((byte >> (slot & np.uint64(7)).astype(np.uint8)) & 1)
        return likely[_found(self.hashes, wanted[likely])]


@dataclass(slots=True)
class Bucket:
    """The ids that came while the clock was in one 24th of the horizon."""

    start_ms: int
    runs: list[Hashes] = field(default_factory=list)
    """Sorted; each at least four times as long as the next."""
    sealed: Sealed | None = None
    count: int = 0

    def add(self, hashes: Hashes) -> None:
        """Add sorted hashes; those already here may be among them."""
        runs = self.runs
        runs.append(hashes)
        while len(runs) > 1 and len(runs[-2]) < MERGE_RATIO * len(runs[-1]):
            last = runs.pop()
            runs[-1] = _merged([runs[-1], last])
        self.count = sum(map(len, runs))

    def seal(self) -> None:
        """Bring what was added into its final form."""
        merged = _merged(self.runs)
        self.runs = []
        self.sealed = Sealed(merged)
        self.count = len(merged)

    def places(self, wanted: Hashes) -> Iterator[NDArray[np.intp]]:
        """Yield places in *wanted* (sorted) of those that are here."""
        if self.sealed is not None:
            yield self.sealed.places(wanted)
        for run in self.runs:
            yield np.flatnonzero(_found(run, wanted))

    @property
    def nbytes(self) -> int:
        """Return the memory held."""
        return sum(run.nbytes for run in self.runs) + (self.sealed.nbytes if self.sealed else 0)


class Verdict(NamedTuple):
    """What one batch is against a seen-set, before anything is changed."""

    new: NDArray[np.bool_]
    """Per id in the order given: not seen within the horizon."""
    segments: list[tuple[int, Hashes]]
    """The new ids by bucket start, sorted."""
    clock_ms: int
    """The partition's clock after the batch."""


def reach_ms(horizon_ms: int) -> int:
    """Return how long ids are remembered at most: buckets are dropped whole.

    A worker that takes over a partition reads as far back, or it would know fewer ids than its
    predecessor did.
    """
    return (BUCKETS + 1) * _width_ms(horizon_ms)


def _width_ms(horizon_ms: int) -> int:
    return max(1, horizon_ms // BUCKETS)


class SeenSet:
    """The ids of one source partition."""

    def __init__(self, horizon_ms: int, max_bucket: int) -> None:
        """Remember ids for *horizon_ms*; a bucket of more than *max_bucket* ids is closed early."""
        self._width_ms = _width_ms(horizon_ms)
        self._max_bucket = max_bucket
        self._buckets: list[Bucket] = []
        self._warm_end = 0
        self.clock_ms = 0
        self.count = 0
        """Ids held."""
        self.forgotten_ms = 0
        """Ids up to this clock time were dropped early, for want of room."""

    def judge(
        self,
        hashes: Hashes,
        received_ms: NDArray[np.int64],
        usable: NDArray[np.bool_] | None = None,
    ) -> Verdict:
        """Tell which ids are new.  Changes nothing.

        Args:
            hashes: The ids of a batch in log order.
            received_ms: When each was received.
            usable: Which of them count; the others move the clock and are neither new nor seen.
        """
        if not len(hashes):
            return Verdict(np.zeros(0, np.bool_), [], self.clock_ms)
        clock = np.maximum.accumulate(np.maximum(received_ms, self.clock_ms))
        bucket = clock - clock % self._width_ms
        order = np.argsort(hashes, kind="stable")
        if usable is not None:
            order = order[usable[order]]
        wanted, bucket = hashes[order], bucket[order]
        held_in = np.full(len(order), -1, np.int64)  # the newest bucket that holds each
        for one in self._buckets:
            for places in one.places(wanted):
                held_in[places] = one.start_ms
        seen = held_in >= np.maximum(bucket - BUCKETS * self._width_ms, 0)
        self._judge_repeats(wanted, held_in, bucket, seen)
        new = np.zeros(len(hashes), np.bool_)
        new[order] = ~seen
        return Verdict(new, _segments(wanted[~seen], bucket[~seen]), int(clock[-1]))

    def commit(self, verdict: Verdict) -> None:
        """Add the new ids of a batch and let go of what has left the horizon."""
        for start_ms, hashes in verdict.segments:
            self._add(start_ms, hashes)
        self._advance(verdict.clock_ms)

    def warm(self, run: SeenRun) -> None:
        """Add what an earlier owner of the partition wrote; twice is as good as once."""
        known = (
            run.end <= self._warm_end
        )  # read again, or the source was read again from further up
        self._warm_end = max(self._warm_end, run.end)
        for segment in run.segments:
            if segment.bucket < self._oldest_ms(self.clock_ms):
                continue
            hashes = segment.column()
            if known:
                hashes = hashes[~self._holds(hashes)]
            if len(hashes):
                self._add(segment.bucket, hashes)
        self._advance(max(self.clock_ms, run.received_ms))

    def forget_oldest(self) -> None:
        """Drop the oldest bucket."""
        oldest = self._buckets.pop(0)
        self.count -= oldest.count
        self.forgotten_ms = oldest.start_ms + self._width_ms

    @property
    def oldest_ms(self) -> int | None:
        """Return the start of the oldest bucket."""
        return self._buckets[0].start_ms if self._buckets else None

    @property
    def nbytes(self) -> int:
        """Return the memory of the ids."""
        return sum(bucket.nbytes for bucket in self._buckets)

    def _judge_repeats(
        self,
        wanted: Hashes,
        held_in: NDArray[np.int64],
        bucket: NDArray[np.int64],
        seen: NDArray[np.bool_],
    ) -> None:
        """Settle the ids that the batch holds more than once; they stand side by side in log order."""
        again = np.flatnonzero(wanted[1:] == wanted[:-1]) + 1
        reach = BUCKETS * self._width_ms
        for place in again.tolist():
            before = place - 1
            held = int(held_in[before] if seen[before] else bucket[before])
            if held >= bucket[place] - reach:
                seen[place] = True
                held_in[place] = held
            else:
                seen[place] = False

    def _oldest_ms(self, clock_ms: int) -> int:
        return clock_ms - clock_ms % self._width_ms - BUCKETS * self._width_ms

    def _holds(self, wanted: Hashes) -> NDArray[np.bool_]:
        held = np.zeros(len(wanted), np.bool_)
        for bucket in self._buckets:
            for places in bucket.places(wanted):
                held[places] = True
        return held

    def _add(self, start_ms: int, hashes: Hashes) -> None:
        buckets = self._buckets
        newest = buckets[-1] if buckets else None
        if newest is None or newest.start_ms < start_ms or newest.count > self._max_bucket:
            if newest is not None:
                self.count -= newest.count
                newest.seal()
                self.count += newest.count
                start_ms = max(start_ms, newest.start_ms)
            newest = Bucket(start_ms)
            buckets.append(newest)
        self.count -= newest.count
        newest.add(hashes)
        self.count += newest.count

    def _advance(self, clock_ms: int) -> None:
        self.clock_ms = clock_ms
        oldest_ms = self._oldest_ms(clock_ms)
        while self._buckets and self._buckets[0].start_ms < oldest_ms:
            self.count -= self._buckets.pop(0).count


def segments_of(verdict: Verdict) -> list[Segment]:
    """Return the new ids as they are written to ``mail.seen``."""
    return [
        Segment(start_ms, hashes.astype(HASH, copy=False).tobytes())
        for start_ms, hashes in verdict.segments
    ]


def _segments(hashes: Hashes, bucket: NDArray[np.int64]) -> list[tuple[int, Hashes]]:
    """Split sorted *hashes* by *bucket*; almost always there is one."""
    if not len(hashes):
        return []
    if bucket[0] == bucket[-1] and (bucket == bucket[0]).all():
        return [(int(bucket[0]), hashes)]
    order = np.argsort(bucket, kind="stable")
    starts, firsts = np.unique(bucket[order], return_index=True)
    parts = np.split(hashes[order], firsts[1:])
    return list(zip(starts.tolist(), parts, strict=True))


def _found(run: Hashes, wanted: Hashes) -> NDArray[np.bool_]:
    """Tell for each of *wanted* whether it is in the sorted *run*, which is not empty."""
    place = np.searchsorted(run, wanted)
    place[place == len(run)] = 0
    found: NDArray[np.bool_] = run[place] == wanted
    return found


def _merged(runs: Sequence[Hashes]) -> Hashes:
    """Return the distinct hashes of several sorted runs, sorted."""
    if len(runs) == 1:
        return runs[0]
    hashes = np.concatenate(runs)
    hashes.sort(kind="stable")  # runs that are sorted already: merged, not sorted
    distinct = np.empty(len(hashes), np.bool_)
    distinct[0] = True
    np.not_equal(hashes[1:], hashes[:-1], out=distinct[1:])
    return hashes if distinct.all() else hashes[distinct]
