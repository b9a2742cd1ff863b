"""Publishes closed panes: a pure map from pane frames on ``mail.rollups`` to records of ``mail.panes``.

It is run by the owner of the partition, next to the fold and under a transactional id of its own.  Where
it stands is an offset in ``mail.rollups``, committed with the records that it wrote; so whatever dies,
each frame becomes its records once.  What a roll-up closed is spread over a minute.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from pipeline.core.batch import Output, OutRecord, Record, TopicPartition, header
from pipeline.core.engine_stats import EngineStats
from pipeline.core.errors import FrameVersionError, InvariantError, MailstreamError
from pipeline.core.published import records_of
from pipeline.core.rollup import PANES_TIER
from pipeline.core.topics import TopicNames
from pipeline.kit.clients import records_until
from pipeline.kit.clock import Clock
from pipeline.kit.retry import Backoff
from pipeline.kit.transactions import (
    CLIENT_FAILURES,
    Committed,
    PreparedBatch,
    TransactionalProducer,
)
from pipeline.transport.options import EngineOptions
from pipeline.transport.tail import reading

log = logging.getLogger(__name__)

MOST_RECORDS: Final = 20_000
"""Records in one transaction."""
SPREAD_S: Final = 60.0
"""Over this time what waits is spread, however much it is."""
PART: Final = 5_000
"""Records put together between two turns of the event loop."""
AGAIN_S: Final = 1.0
"""The markers of a roll-up may be written a moment after its commit was answered."""
TRIES: Final = 30
CANCEL_S: Final = 10.0
STUCK_S: Final = 60.0
"""What cannot be published, as a frame of a newer program, is looked at again after this time."""
_TIER: Final = str(PANES_TIER).encode()
_CURSOR: Final = "panes1"


class Offsets(Protocol):
    """Knows what the group has committed."""

    async def committed(self, tp: TopicPartition) -> Committed | None:
        """Return it for *tp*."""


@dataclass(slots=True)
class _Work:
    """What the next transaction is to write."""

    position: int
    """Offset of the first frame in it."""
    next: int
    """Offset of the frame that comes after it."""
    skip: int = 0
    """Records of that frame that are in it, or were written before."""
    lost: int = 0
    """Offsets that were deleted before."""
    token: bytes = b""
    """Of the newest roll-up that was read."""
    records: list[OutRecord] = field(default_factory=list)

    def written(self) -> None:
        """Begin with the next transaction."""
        self.position, self.lost, self.records = self.next, 0, []


@dataclass(frozen=True, slots=True)
class _Pace:
    """When what stands at an offset is to be written: what waits is spread over a minute."""

    began_s: float
    start: int
    end: int

    def due_s(self, offset: int) -> float:
        """Return the monotonic time at which to write it."""
        return self.began_s + SPREAD_S * (offset - self.start) / max(1, self.end - self.start)


class Publisher:
    """The publisher of one partition, while this worker owns it."""

    def __init__(
        self,
        partition: int,
        names: TopicNames,
        options: EngineOptions,
        stats: EngineStats,
        clock: Clock,
    ) -> None:
        """Name the partition of the roll-ups."""
        self._source = TopicPartition(names.of("rollups"), partition)
        self._target = TopicPartition(names.of("panes"), partition)
        self._options, self._stats, self._clock = options, stats, clock
        self._producer = TransactionalProducer(
            names.transactional_id(*self._source),
            [self._target.topic],
            options.transactions,
            names.app_id,
        )
        self._reader: Offsets
        self._task: asyncio.Task[None] | None = None
        self._written = asyncio.Event()
        self._wanted = b""
        """The token of the newest roll-up with pane frames, by this worker."""
        self._met = b""
        """The token of the newest roll-up that was published."""
        self._rng = random.Random()  # noqa: S311  jitter needs no secrecy

    def start(self, reader: Offsets) -> None:
        """Publish what waits, and what :meth:`wake` tells of, in a task of its own."""
        if self._task is None:
            self._reader = reader
            self._task = asyncio.create_task(self._run(), name=f"publish-{self._source.partition}")
            self._task.add_done_callback(self._ended)

    def wake(self, token: str) -> None:
        """Publish what the roll-up of *token* wrote."""
        self._wanted = token.encode()
        self._written.set()

    async def stop(self) -> None:
        """End; a transaction that is open is abandoned, and ended by whoever comes next."""
        task, self._task = self._task, None
        if task is not None:
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=CANCEL_S)
        await self._producer.close()

    # -- the task

    async def _run(self) -> None:
        backoff, attempt = Backoff(cap_s=self._options.retry_cap_s), 0
        heartbeat_s = self._options.heartbeat_ms / 1000
        while True:
            try:
                await self._publish()
                attempt = 0
                await self._written.wait()
                continue
            except CLIENT_FAILURES as exc:
                self._stats.transactions_failed += 1
                told = {**self._place(), "error": f"{type(exc).__name__}: {exc}"}
                log.warning("panes are published again after a failure", extra=told)
                # A zombie learns from its next heartbeat that it is one.
                wait_s = heartbeat_s + backoff.wait_s(attempt, self._rng)
                attempt += 1
            except MailstreamError as exc:
                told = {**self._place(), "error": f"{type(exc).__name__}: {exc}"}
                log.error("panes are not published", extra=told)  # noqa: TRY400  the sentence is all there is to know
                wait_s = STUCK_S
            await self._clock.sleep(wait_s)

    async def _publish(self) -> None:
        """Publish everything up to the newest roll-up that this worker knows of."""
        tries = 0
        while tries < TRIES:
            self._written.clear()
            before = self._met
            await self._drain()
            if not self._wanted or self._met == self._wanted:
                return
            tries = tries + 1 if self._met == before else 0
            await self._clock.sleep(AGAIN_S)
        log.error("the frames of a roll-up are gone before they were read", extra=self._place())
        self._wanted = b""

    async def _drain(self) -> None:
        """Publish what can be read now."""
        # Fenced first, or a former owner could still move the cursor.
        self._stats.markers_mended += await self._producer.fence()
        try:
            async with reading(self._options, reset="none") as consumer:
                async with asyncio.timeout(self._options.open_limit_s):
                    committed = await self._reader.committed(self._source)
                await self._follow(consumer, committed)
        finally:
            await self._producer.close()

    async def _follow(self, consumer: AIOKafkaConsumer, committed: Committed | None) -> None:
        partition = KafkaPartition(*self._source)
        consumer.assign([partition])
        async with asyncio.timeout(self._options.open_limit_s):
            first = (await consumer.beginning_offsets([partition]))[partition]
            end = (await consumer.end_offsets([partition]))[partition]
        work = self._begin(committed, first, end)
        consumer.seek(partition, work.next)
        pace = _Pace(self._clock.monotonic(), work.next, end)
        async for records in records_until(consumer, {partition: end}):
            for record in records:
                await self._take(work, record, pace)
        if work.next < end:  # behind the last frame there are only markers
            work.next, work.skip = end, 0
        if work.next > pace.start:
            await self._commit(work, pace)
        self._met = work.token or self._met

    def _begin(self, committed: Committed | None, first: int, end: int) -> _Work:
        """Return where to go on, with nothing to write."""
        if committed is None:
            return _Work(first, first)
        if committed.offset > end:
            told = {**self._place(), "position": committed.offset, "end": end}
            log.error(
                "roll-ups were made anew: panes are published from their beginning", extra=told
            )
            return _Work(first, first)
        if committed.offset < first:
            lost = first - committed.offset
            told = {**self._place(), "records": lost}
            log.error("closed panes were deleted before they were published", extra=told)
            return _Work(first, first, lost=lost)
        mark, _, skip = committed.metadata.partition(" ")
        done = int(skip) if mark == _CURSOR and skip.isdigit() else 0
        return _Work(committed.offset, committed.offset, done)

    async def _take(self, work: _Work, record: Record, pace: _Pace) -> None:
        """Add what a frame becomes; write what makes a transaction."""
        records: list[OutRecord] = []
        if header(record.headers, "tier") == _TIER:
            try:
                records = self._records(work, record)
            except FrameVersionError:
                if work.records:  # what came before it need not wait
                    await self._commit(work, pace)
                raise
            await asyncio.sleep(0)
        done = work.skip if record.offset == work.next else 0
        rest = records[done:]
        if work.records and len(work.records) + len(rest) > MOST_RECORDS:
            work.next, work.skip = record.offset, done
            await self._commit(work, pace)
        while len(rest) > MOST_RECORDS:  # a frame of another program
            work.records, rest = rest[:MOST_RECORDS], rest[MOST_RECORDS:]
            done += MOST_RECORDS
            work.next, work.skip = record.offset, done
            await self._commit(work, pace)
        work.records += rest
        work.next, work.skip = record.offset + 1, 0
        work.token = header(record.headers, "token") or work.token

    def _records(self, work: _Work, record: Record) -> list[OutRecord]:
        try:
            return [OutRecord(value, key) for key, value in records_of(record.value or b"")]
        except FrameVersionError:
            raise
        except InvariantError as exc:
            told = {**self._place(), "offset": record.offset, "error": str(exc)}
            log.error("a frame of closed panes cannot be read", extra=told)  # noqa: TRY400  the sentence is all there is to know
            work.lost += 1
            return []

    async def _commit(self, work: _Work, pace: _Pace) -> None:
        """Write the work and where it ends, in one transaction, once it is due."""
        await self._clock.sleep(max(0.0, pace.due_s(work.position) - self._clock.monotonic()))
        prepared: list[PreparedBatch] = []
        now_ms = self._clock.now_ms()
        for start in range(0, len(work.records), PART):
            part = work.records[start : start + PART]
            prepared += self._producer.prepare([Output(*self._target, part)], now_ms)
            await asyncio.sleep(0)
        cursor = Committed(work.next, f"{_CURSOR} {work.skip}")
        await self._producer.commit(prepared, {self._source: cursor})
        self._stats.panes_published += len(work.records)
        self._stats.panes_lost += work.lost
        work.written()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("panes are published no more", extra=self._place(), exc_info=error)

    def _place(self) -> dict[str, object]:
        return {"topic": self._source.topic, "partition": self._source.partition}
