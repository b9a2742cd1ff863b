"""Replay: what a topic holds, once more, to a file, another topic, or under another prefix.

Order within a partition, keys, headers and values stay; across partitions records come by the time at
which they were written.  A replay that was interrupted and is started again with the same arguments goes on
where it was: the targets know.  What Kafka has let go of meanwhile is told, never passed over in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from consumers.replay_reading import Lost, Merged, Range, Span, spans_of
from consumers.snapshot import connected
from pipeline.core.errors import ConfigError
from pipeline.kit.clients import partitions_of
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import Settings

CHUNK: Final = 10_000
CHUNK_BYTES: Final = 8 << 20
"""Written at once: to a topic, in one transaction."""
WAIT_S: Final = 0.05
"""Waits that are shorter are left for the next record."""

Wanted = Callable[[Any], bool]


class Target(Protocol):
    """Where a replay goes."""

    async def open(self, partitions: int) -> Mapping[int, int]:
        """Prepare for records of so many partitions; return the offsets at which they go on."""

    async def write(self, records: Sequence[Any], positions: Mapping[int, int]) -> None:
        """Write *records*, and that each partition goes on at one of *positions*."""

    async def close(self) -> None:
        """Let go of everything."""


@dataclass(slots=True)
class Replayed:
    """How far a replay is."""

    spans: list[Span] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    read: int = 0
    wanted: int = 0
    """Those that pass the filter."""

    @property
    def total(self) -> int:
        """Return how many offsets there are to read; some of them hold no record."""
        return sum(max(0, span.end - span.first) for span in self.spans)


Progress = Callable[[Replayed], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replay."""

    topic: str
    """Full name."""
    within: Range
    wanted: Wanted | None = None
    """Which records; None: all."""
    speed: float | None = None
    """How many times as fast as it was written; None: as fast as it goes."""

    async def run(
        self,
        settings: Settings,
        bootstrap: str,
        target: Target | None,
        *,
        clock: Clock,
        progress: Progress = lambda _replayed: None,
    ) -> Replayed:
        """Read, and write to *target*; with None only count, at full speed.

        Raises:
            ConfigError: There is no such topic, or the target does not fit.
            TransientError: Kafka does not answer.
        """
        replayed = Replayed()
        client = client_options(settings.kafka, bootstrap)
        async with connected(client, offset_reset="none") as consumer:
            numbers = await partitions_of(consumer, self.topic)
            if not numbers:
                raise ConfigError([f"there is no topic {self.topic}"])
            spans = await spans_of(consumer, self.topic, sorted(numbers), self.within)
            writer = _Writer(target, replayed, progress)
            try:
                done = {} if target is None else await target.open(len(numbers))
                replayed.spans = list(_left(spans, done, replayed.lost.append))
                pace = None if target is None or self.speed is None else Pace(self.speed, clock)
                reading = Merged(consumer, replayed.spans, replayed.lost.append)
                async with aclosing(reading.some()) as some:
                    async for records in some:
                        await self._take(records, writer, pace)
                await writer.written()
            finally:
                await writer.abandon()
                if target is not None:
                    await target.close()
        return replayed

    async def _take(self, records: list[Any], writer: _Writer, pace: Pace | None) -> None:
        for chunk in _chunks(records):
            if pace is None:
                await writer.write(chunk, self._wanted(chunk))
                continue
            begin = 0
            for at, record in enumerate(chunk):
                if self.wanted is not None and not self.wanted(record):
                    continue
                if (wait_s := pace.wait_s(record.timestamp)) > WAIT_S:
                    before = chunk[begin:at]
                    await writer.write(before, self._wanted(before))
                    await writer.written()
                    await pace.clock.sleep(wait_s)
                    begin = at
            rest = chunk[begin:]
            await writer.write(rest, self._wanted(rest))

    def _wanted(self, records: list[Any]) -> list[Any]:
        return records if self.wanted is None else list(filter(self.wanted, records))


def _left(
    spans: Sequence[Span], done: Mapping[int, int], lost: Callable[[Lost], None]
) -> Iterator[Span]:
    """Yield what is left of *spans* for a replay that has *done* some; tell what it has *lost*."""
    for span in spans:
        number = span.tp.partition
        if number not in done:
            yield span
            continue
        if span.gone and done[number] < min(span.first, span.end):
            lost(Lost(number, done[number], min(span.first, span.end)))
        yield span._replace(first=max(span.first, done[number]), gone=False)


def _chunks(records: list[Any]) -> Iterator[list[Any]]:
    """Yield *records*, as many at a time as may be written at once."""
    begin = size = 0
    for at, record in enumerate(records):
        size += len(record.value or b"")
        if size > CHUNK_BYTES or at - begin == CHUNK:
            if begin < at:
                yield records[begin:at]
            begin, size = at, len(record.value or b"")
    yield records[begin:]


class Pace:
    """Says how long to wait, so that records come as far apart as they were written."""

    def __init__(self, speed: float, clock: Clock) -> None:
        """Begin with the first record, *speed* times as fast."""
        self._speed = speed
        self.clock = clock
        self._began: tuple[int, float] | None = None

    def wait_s(self, written_ms: int) -> float:
        """Return the seconds until the record that was written at *written_ms* is due."""
        now = self.clock.monotonic()
        if self._began is None:
            self._began = written_ms, now
        first_ms, began = self._began
        return began + (written_ms - first_ms) / 1000 / self._speed - now


class _Writer:
    """Writes some records while the next ones are read."""

    def __init__(self, target: Target | None, replayed: Replayed, progress: Progress) -> None:
        self._target, self._replayed, self._progress = target, replayed, progress
        self._writing: asyncio.Task[None] | None = None

    async def write(self, records: Sequence[Any], wanted: Sequence[Any]) -> None:
        """Begin to write the *wanted* of *records*, once those before are written."""
        await self.written()
        if not records:
            return
        replayed = self._replayed
        replayed.read += len(records)
        replayed.wanted += len(wanted)
        self._progress(replayed)
        if self._target is not None:
            positions = {one.partition: one.offset + 1 for one in records}
            self._writing = asyncio.create_task(self._write(self._target, wanted, positions))

    async def _write(
        self, target: Target, records: Sequence[Any], positions: Mapping[int, int]
    ) -> None:
        await target.write(records, positions)

    async def written(self) -> None:
        """Return when all is written that was begun."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def abandon(self) -> None:
        """End what was begun, whatever becomes of it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.cancel()
            await asyncio.wait([writing])
