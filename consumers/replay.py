"""Replay: what a topic holds, once more, to a file or under another prefix.

Order within a partition, keys, headers and values stay; across partitions records come by the time at
which they were written.  A replay that was interrupted and is started again with the same arguments goes on
where it was: the targets know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.snapshot import POLL_MS, STALLED_S, connected
from pipeline.core.errors import ConfigError, TransientError
from pipeline.kit.clients import partitions_of
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import Settings

MAX_BUFFERED: Final = 2000
"""Records of one partition that wait for those of others, besides one fetch."""
CHUNK: Final = 1000
CHUNK_BYTES: Final = 4 << 20
WAIT_S: Final = 0.05
"""Waits that are shorter are left for the next record."""

Wanted = Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What part of a topic: by the times at which records were written, or by offsets."""

    since_ms: int | None = None
    until_ms: int | None = None
    """Exclusive; None: what is there when the replay begins."""
    offsets: Mapping[int, tuple[int, int]] | None = None
    """First offset and the one after the last, of each partition that is wanted."""


class Span(NamedTuple):
    """The part of one partition that is replayed."""

    tp: TopicPartition
    first: int
    end: int
    """Exclusive."""
    gone: bool
    """Kafka no longer holds the beginning of what was asked for, or of the partition."""


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
    read: int = 0
    wanted: int = 0
    """Those that pass the filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replay."""

    topic: str
    """Full name."""
    within: Range
    wanted: Wanted = lambda _record: True
    speed: float | None = None
    """How many times as fast as it was written; None: as fast as it goes."""

    async def run(
        self,
        settings: Settings,
        bootstrap: str,
        target: Target | None,
        *,
        clock: Clock,
        progress: Callable[[Replayed], None] = lambda _replayed: None,
    ) -> Replayed:
        """Read, and write to *target*; with None only count, at full speed.

        Raises:
            ConfigError: There is no such topic, or the target does not fit.
            TransientError: Kafka does not answer.
        """
        replayed = Replayed()
        async with connected(client_options(settings.kafka, bootstrap)) as consumer:
            numbers = await partitions_of(consumer, self.topic)
            if not numbers:
                raise ConfigError([f"there is no topic {self.topic}"])
            replayed.spans = await spans_of(consumer, self.topic, sorted(numbers), self.within)
            try:
                done = {} if target is None else await target.open(len(numbers))
                left = [
                    span._replace(first=max(span.first, done.get(span.tp.partition, 0)))
                    for span in replayed.spans
                ]
                pace = None if target is None or self.speed is None else Pace(self.speed, clock)
                writer = _Chunks(target, replayed, progress)
                async with aclosing(merged(consumer, left)) as records:
                    async for record in records:
                        await self._take(record, writer, pace)
                await writer.flush()
            finally:
                if target is not None:
                    await target.close()
        return replayed

    async def _take(self, record: Any, writer: _Chunks, pace: Pace | None) -> None:
        wanted = self.wanted(record)
        if wanted and pace is not None and (wait_s := pace.wait_s(record.timestamp)) > WAIT_S:
            await writer.flush()
            await pace.clock.sleep(wait_s)
        await writer.add(record, wanted=wanted)


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


class _Chunks:
    """Writes records some at a time."""

    def __init__(
        self, target: Target | None, replayed: Replayed, progress: Callable[[Replayed], None]
    ) -> None:
        self._target, self._replayed, self._progress = target, replayed, progress
        self._records: list[Any] = []
        self._positions: dict[int, int] = {}
        self._size = self._count = 0

    async def add(self, record: Any, *, wanted: bool) -> None:
        self._replayed.read += 1
        self._positions[record.partition] = record.offset + 1
        self._count += 1
        if wanted:
            self._replayed.wanted += 1
            if self._target is not None:
                self._records.append(record)
                self._size += len(record.value or b"")
        if self._count == CHUNK or self._size > CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if self._target is not None and self._positions:
            await self._target.write(self._records, self._positions)
        self._records, self._positions = [], {}
        self._size = self._count = 0
        self._progress(self._replayed)


async def spans_of(
    consumer: AIOKafkaConsumer, topic: str, numbers: Sequence[int], within: Range
) -> list[Span]:
    """Return the parts of the partitions of *topic* that are *within*, as far as Kafka holds them.

    Raises:
        ConfigError: A partition is named that the topic does not have.
    """
    if within.offsets is not None and (alien := sorted(within.offsets.keys() - set(numbers))):
        raise ConfigError([f"{topic} has no partition {', '.join(map(str, alien))}"])
    tps = [TopicPartition(topic, number) for number in numbers]
    firsts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    if within.offsets is not None:
        return [
            Span(tp, max(first, firsts[tp]), min(end, ends[tp]), first < firsts[tp])
            for tp in tps
            if tp.partition in within.offsets
            for first, end in [within.offsets[tp.partition]]
        ]
    since = await _offsets_at(consumer, tps, within.since_ms)
    until = await _offsets_at(consumer, tps, within.until_ms)
    begin = firsts if within.since_ms is None else {tp: since.get(tp, ends[tp]) for tp in tps}
    return [Span(tp, begin[tp], until.get(tp, ends[tp]), 0 < firsts[tp] == begin[tp]) for tp in tps]


async def _offsets_at(
    consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition], time_ms: int | None
) -> dict[TopicPartition, int]:
    """Return the first offsets from *time_ms* on, of partitions that have one."""
    if time_ms is None:
        return {}
    found = await consumer.offsets_for_times(dict.fromkeys(tps, time_ms))
    return {tp: int(place.offset) for tp, place in found.items() if place is not None}


async def merged(consumer: AIOKafkaConsumer, spans: Sequence[Span]) -> AsyncGenerator[Any, None]:
    """Yield the records of *spans*, always the one that was written first among the next ones.

    Raises:
        TransientError: Kafka does not answer any more.
    """
    ends = {span.tp: span.end for span in spans if span.first < span.end}
    waiting: dict[TopicPartition, deque[Any]] = {tp: deque() for tp in ends}
    if not ends:
        return
    consumer.assign(list(ends))
    for span in spans:
        if span.tp in ends:
            consumer.seek(span.tp, span.first)
    reading = set(ends)
    while waiting:
        await _fill(consumer, waiting, reading, ends)
        while waiting and all(waiting.values()):
            tp = min(waiting, key=lambda one: waiting[one][0].timestamp)
            yield waiting[tp].popleft()
            if not waiting[tp] and tp not in reading:
                del waiting[tp]


async def _fill(
    consumer: AIOKafkaConsumer,
    waiting: dict[TopicPartition, deque[Any]],
    reading: set[TopicPartition],
    ends: Mapping[TopicPartition, int],
) -> None:
    """Fetch until every partition has a record waiting, or has come to its end."""
    stalled_s = 0.0
    positions: dict[TopicPartition, int] = {}
    while any(not waiting[tp] for tp in reading):
        for tp in reading:
            full = len(waiting[tp]) > MAX_BUFFERED
            (consumer.pause if full else consumer.resume)(tp)
        for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
            waiting[tp].extend(record for record in records if record.offset < ends[tp])
        before, positions = positions, {tp: await consumer.position(tp) for tp in reading}
        stalled_s = 0.0 if positions != before else stalled_s + POLL_MS / 1000
        for tp, position in positions.items():
            if position >= ends[tp]:
                reading.discard(tp)
                consumer.pause(tp)
                if not waiting[tp]:
                    del waiting[tp]
        if stalled_s > STALLED_S:
            raise TransientError(f"Kafka has sent nothing for {STALLED_S:.0f} s")
