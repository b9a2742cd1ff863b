"""What a replay reads: the parts of a topic that are wanted, in the order in which they were written."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from consumers.snapshot import POLL_MS, STALLED_S
from pipeline.core.errors import ConfigError, TransientError

MAX_BUFFERED: Final = 5000
"""Records of one partition that wait for those of others, besides one fetch."""


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
    since_ms: int | None = None
    """When the first record was written that is left; known where *gone*, if there is one."""


class Lost(NamedTuple):
    """Records that Kafka let go of before an interrupted or a slow replay came to them."""

    partition: int
    first: int
    end: int
    """Exclusive."""


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
        spans = [
            Span(tp, max(first, firsts[tp]), min(end, ends[tp]), first < firsts[tp])
            for tp in tps
            if tp.partition in within.offsets
            for first, end in [within.offsets[tp.partition]]
        ]
    else:
        since = await _places_at(consumer, tps, within.since_ms)
        until = await _places_at(consumer, tps, within.until_ms)
        spans = []
        for tp in tps:
            end = until[tp].offset if tp in until else ends[tp]
            first = firsts[tp]
            if within.since_ms is not None:
                first = since[tp].offset if tp in since else ends[tp]
            spans.append(Span(tp, first, end, gone=0 < firsts[tp] == first))
    left = await _places_at(consumer, [span.tp for span in spans if span.gone], 0)
    return [
        span._replace(since_ms=left[span.tp].timestamp) if span.tp in left else span
        for span in spans
    ]


async def _places_at(
    consumer: AIOKafkaConsumer, tps: Collection[TopicPartition], time_ms: int | None
) -> dict[TopicPartition, Any]:
    """Return offset and time of the first records from *time_ms* on, of partitions that have one."""
    if time_ms is None or not tps:
        return {}
    found = await consumer.offsets_for_times(dict.fromkeys(tps, time_ms))
    return {tp: place for tp, place in found.items() if place is not None}


@dataclass(slots=True)
class _Waiting:
    """Records of one partition that were read, and wait for those of others."""

    records: list[Any] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    """When each was written, or the latest of those before it: their order stays."""

    def add(self, records: Iterable[Any]) -> None:
        """Put *records* behind the others."""
        self.records += records
        new = (one.timestamp for one in self.records[len(self.times) :])
        last = self.times[-1:]
        self.times += list(accumulate([*last, *new], max))[len(last) :]

    def take(self, until_ms: float) -> tuple[list[Any], list[int]]:
        """Return, and forget, those up to *until_ms*, included."""
        count = bisect_right(self.times, until_ms)
        taken = self.records[:count], self.times[:count]
        del self.records[:count], self.times[:count]
        return taken


class Merged:
    """Reads the records of *spans*, those of different partitions in the order of their times."""

    def __init__(
        self, consumer: AIOKafkaConsumer, spans: Sequence[Span], lost: Callable[[Lost], None]
    ) -> None:
        """Read with *consumer*, which has no offset to fall back to; tell what is *lost*."""
        self._consumer, self._lost = consumer, lost
        self._ends = {span.tp: span.end for span in spans if span.first < span.end}
        self._waiting = {tp: _Waiting() for tp in self._ends}
        self._reading = set(self._ends)
        consumer.assign(list(self._ends))
        for span in spans:
            if span.tp in self._ends:
                consumer.seek(span.tp, span.first)

    async def some(self) -> AsyncGenerator[list[Any], None]:
        """Yield the records, as many at a time as are at hand.

        Raises:
            TransientError: Kafka does not answer any more.
        """
        while self._reading:
            await self._fill()
            # What is still to be read of a partition comes after what is at hand of it.
            until = min((self._waiting[tp].times[-1] for tp in self._reading), default=float("inf"))
            records: list[Any] = []
            times: list[int] = []
            for waiting in self._waiting.values():
                taken = waiting.take(until)
                records += taken[0]
                times += taken[1]
            if records:
                yield [records[at] for at in sorted(range(len(times)), key=times.__getitem__)]

    async def _fill(self) -> None:
        """Fetch until every partition has a record waiting, or has come to its end."""
        consumer, waiting = self._consumer, self._waiting
        stalled_s = 0.0
        positions: dict[TopicPartition, int] = {}
        while any(not waiting[tp].records for tp in self._reading):
            for tp in self._reading:
                full = len(waiting[tp].records) > MAX_BUFFERED
                (consumer.pause if full else consumer.resume)(tp)
            try:
                fetched = await consumer.getmany(timeout_ms=POLL_MS)
            except OffsetOutOfRangeError as exc:
                await self._skip(exc.args[0])
                continue
            for tp, records in fetched.items():
                end = self._ends[tp]
                waiting[tp].add(one for one in records if one.offset < end)
            before, positions = (
                positions,
                {tp: await consumer.position(tp) for tp in self._reading},
            )
            stalled_s = 0.0 if positions != before else stalled_s + POLL_MS / 1000
            for tp, position in positions.items():
                if position >= self._ends[tp]:
                    self._reading.discard(tp)
                    consumer.pause(tp)
            if stalled_s > STALLED_S:
                raise TransientError(f"Kafka has sent nothing for {STALLED_S:.0f} s")

    async def _skip(self, gone: Mapping[TopicPartition, int]) -> None:
        """Go on at what is left of partitions that do not hold the offset that is next."""
        firsts = await self._consumer.beginning_offsets(list(gone))
        for tp, offset in gone.items():
            first, end = int(firsts[tp]), self._ends[tp]
            if offset > first:  # the topic was made anew: nothing of it is what was asked for
                first = end
            self._lost(Lost(tp.partition, offset, min(first, end)))
            if first < end:
                self._consumer.seek(tp, first)
            else:
                self._reading.discard(tp)
                self._consumer.pause(tp)
