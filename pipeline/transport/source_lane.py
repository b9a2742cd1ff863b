"""A lane of a raw topic: one transaction per batch, exactly once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaConnectionError

from pipeline.core.batch import Output, Record, SourceStep, StepResult, TopicPartition
from pipeline.core.seen import decode_run
from pipeline.core.topics import TopicNames
from pipeline.kit.transactions import (
    CLIENT_FAILURES,
    Committed,
    PreparedBatch,
    TransactionalProducer,
)
from pipeline.transport.batch import RecordBatch
from pipeline.transport.bisect import Piece, PoisonRate, settle
from pipeline.transport.errors import OutOfLogError, own_code
from pipeline.transport.lane import Lane, Surroundings
from pipeline.transport.mark import Mark, decode_mark
from pipeline.transport.options import SEEN_MARGIN_MS
from pipeline.transport.warmup import LastRun, WarmUp

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """What one transaction is to commit."""

    prepared: Sequence[PreparedBatch]
    end: int
    """The source offset after it."""
    made_ms: int
    """When it was computed: the time of its records."""
    events: int
    received_ms: int | None
    on_commit: Callable[[], None]


class SourceLane(Lane):
    """One partition of phase 1; its state lives while nobody else commits there."""

    paced = True

    def __init__(
        self,
        tp: TopicPartition,
        shared: Surroundings,
        names: TopicNames,
        step: SourceStep,
        seen_topic: str,
    ) -> None:
        """Begin without state."""
        super().__init__(tp, shared)
        self._step = step
        self._seen = TopicPartition(seen_topic, tp.partition)
        transactional_id = names.transactional_id(tp.topic, tp.partition)
        self._producer = TransactionalProducer(
            transactional_id, names.outputs, shared.options.transactions, names.app_id
        )
        self._poison = PoisonRate(shared.options.poison_per_minute)
        self._held = False
        """Whether the step has state of this partition."""
        self._whole = False
        """Whether that state is exactly what :attr:`_base` committed."""
        self._base: Committed | None = None
        self._received_ms: int | None = None

    def watch(self, now: float) -> None:
        """Also open again after a lost connection, as soon as there is nothing else to do.

        A commit that was answered may lack its markers then, and without further events nobody
        would write them.
        """
        super().watch(now)
        if self._tap is not None and self._producer.lost_connection:
            self.read_failed(self._tap, KafkaConnectionError("a connection to Kafka broke"))

    # -- opening

    async def _open(self) -> None:
        self.shared.stats.markers_mended += await self._producer.fence()
        async with asyncio.timeout(self.shared.options.open_limit_s):
            committed = await self.reader.committed(self.tp)
            bounds = await self.reader.bounds(self.tp)
        if committed is not None and committed.offset > bounds.last_stable:
            raise OutOfLogError(
                f"committed offset {committed.offset} is behind the end {bounds.last_stable}: "
                "was the topic made anew? Then delete the group's offsets"
            )
        if not self._whole or committed != self._base:
            await self._recover(committed)
            self.next = bounds.beginning if committed is None else committed.offset
        if self.next < bounds.beginning:
            log.error(
                "records were deleted before they were read",
                extra={**self._place(), "position": self.next, "beginning": bounds.beginning},
            )
            self.next = bounds.beginning
        # Until the first fetch tells the end, an old backlog must not look like none.
        self.stats.position = self.next
        self.stats.high_watermark = max(self.stats.high_watermark, bounds.last_stable)
        self.stats.ready = True

    async def _recover(self, committed: Committed | None) -> None:
        """Begin with the state that the log tells."""
        self.drop()
        with own_code():
            self._step.open(self.tp)
        self._held = True
        self._received_ms = None
        await self._warm_up(committed)
        self._base, self._whole = committed, True

    async def _warm_up(self, committed: Committed | None) -> None:
        clock, options = self.shared.clock, self.shared.options
        now_ms, since = clock.now_ms(), clock.monotonic()
        mark = None if committed is None else decode_mark(committed.metadata)
        last = None
        if committed is not None and mark is not None:
            last = LastRun(committed.offset, mark.commit_ms)
        self._received_ms = None if mark is None else mark.received_ms
        # The horizon is measured by ingest time, which may lag behind; runs are never older.
        until_ms = now_ms if mark is None else min(now_ms, mark.received_ms)
        since_ms = until_ms - options.seen_horizon_ms - SEEN_MARGIN_MS
        warm_up = WarmUp(self.tp, self._seen, last, max(0, since_ms))
        met = await warm_up.read(options, self._warm)
        extra = {**self._place(), "seconds": round(clock.monotonic() - since, 3)}
        if met or mark is None or mark.commit_ms < now_ms - options.seen_horizon_ms:
            log.info("a partition is warm", extra=extra)
        else:
            log.warning("the last commit's seen ids are missing: repeats may pass", extra=extra)

    def _warm(self, value: bytes) -> None:
        with own_code():
            self._step.warm(self.tp, value)

    # -- working

    async def _between(self) -> None:
        """Do nothing: all work comes with batches."""

    async def _settle(self, batch: RecordBatch) -> None:
        await settle(self, Piece(batch.records, batch.start, batch.end))

    async def compute(self, piece: Piece) -> Work:
        """Run the step on a piece."""
        async with self.shared.turn:
            now_ms, since = self.shared.clock.now_ms(), time.thread_time()
            result = self._step.on_batch(self.tp, piece.records, piece.start, piece.end, now_ms)
            if self._tap is not None:
                self._tap.adapt(len(piece.records), time.thread_time() - since)
        self.shared.stats.batch_events.observe(len(piece.records))
        await asyncio.sleep(0)
        return self._work(result, piece.end, now_ms)

    def set_aside(self, record: Record, error: Exception) -> Work:
        """Make a dead letter of a record on which the step raised."""
        if self._poison.count(self.shared.clock.monotonic(), record.offset):
            self.shared.stats.poison_records += 1
        log.error(
            "a record raised in the pure part and goes to the dead letters",
            extra={**self._place(), "offset": record.offset},
            exc_info=error,
        )
        now_ms = self.shared.clock.now_ms()
        with own_code():
            result = self._step.dead_letter(self.tp, record, error, now_ms)
        return self._work(result, record.offset + 1, now_ms)

    def _work(self, result: StepResult, end: int, now_ms: int) -> Work:
        prepared = self._producer.prepare(result.outputs, now_ms)
        received_ms = self._received_of(result.outputs)
        return Work(prepared, end, now_ms, result.events, received_ms, result.on_commit)

    def _received_of(self, outputs: Sequence[Output]) -> int | None:
        for output in outputs:
            if output.topic == self._seen.topic and output.records:
                return decode_run(output.records[-1].value).received_ms
        return self._received_ms

    async def commit(self, work: Work) -> None:
        """Commit one transaction; only then does the step's state change."""
        async with self._working():
            clock, stats = self.shared.clock, self.shared.stats
            since = clock.monotonic()
            mark = Mark.now(work.made_ms, work.received_ms)
            committed = Committed(work.end, mark.encode())
            try:
                await self._producer.commit(work.prepared, {self.tp: committed})
            except (*CLIENT_FAILURES, asyncio.CancelledError):
                stats.transactions_failed += 1
                raise
            self._whole = False
            with own_code():
                work.on_commit()
            self._base, self._whole = committed, True
            self._received_ms = work.received_ms
            self.stats.received_ms = work.received_ms or 0
            self.next = work.end
            stats.transactions += 1
            stats.transaction_s.observe(clock.monotonic() - since)
            stats.last_commit_ms = clock.now_ms()

    # -- ending

    def _retreat(self) -> None:
        # The state stays: if nothing was committed that it does not know, it is still right.
        self.stats.ready = False

    async def _shut(self) -> None:
        await super()._shut()
        await self._producer.close()

    def lost_membership(self) -> None:
        """Keep the state: what others committed shows when the partition is opened."""

    def drop(self) -> None:
        """Drop the step's state."""
        self._whole = False
        self.stats.ready = False
        if self._held:
            self._held = False
            self._step.close(self.tp)
