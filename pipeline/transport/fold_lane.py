"""A lane of ``mail.deltas``: the log is the state, so opening it means to read it again.

With roll-ups only its tail: frames of closed panes stand for the rest (:mod:`.rollups`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiokafka.errors import KafkaConnectionError

from pipeline.core.batch import FoldStep, TopicPartition, chunks
from pipeline.core.pane import FUTURE_AFTER_MS
from pipeline.core.rollup import LATE_EVERY_MS, SKEW_MS, Cut, deltas_since
from pipeline.kit.transactions import CLIENT_FAILURES, Committed
from pipeline.transport.batch import RecordBatch
from pipeline.transport.errors import own_code
from pipeline.transport.lane import Lane, Surroundings
from pipeline.transport.options import FOLD_MARGIN_MS
from pipeline.transport.publisher import Publisher
from pipeline.transport.reader import Bounds
from pipeline.transport.rollups import RollupPlan, Rollups
from pipeline.transport.watching import Watching

log = logging.getLogger(__name__)

ROLL_UP_AGAIN_S: Final = 60.0
"""After a roll-up that failed the deltas alone are worked on for so long: without roll-ups windows are
as right, and what keeps them from being written may last."""
CHUNK_BYTES: Final = 256 << 10
"""Frames folded between two turns of the event loop: some thousand rows, 10 to 20 ms."""


class FoldLane(Lane):
    """One partition of phase 2; its state lives through rebalances that leave it here."""

    paced = False

    def __init__(
        self,
        tp: TopicPartition,
        shared: Surroundings,
        step: FoldStep,
        plan: RollupPlan | None = None,
    ) -> None:
        """Begin without state; with a *plan*, closed panes are rolled up."""
        super().__init__(tp, shared)
        self._step = step
        self._plan = plan
        self._rollups = None if plan is None else Rollups(tp, plan, shared.options)
        self._watch: Watching | None = None
        if plan is not None and plan.watch is not None:
            self._watch = Watching(tp.partition, plan.watch, shared.options, self._arrived.set)
        self._publisher: Publisher | None = None
        if plan is not None and plan.publishes:
            self._publisher = Publisher(
                tp.partition, plan.names, shared.options, shared.stats, shared.clock
            )
        self._base: Committed | None = None
        """What is committed, as far as :attr:`_whole` state knows."""
        self._keep = False
        """Whether the state outlives the next failure: it was not reading that failed."""
        self._late_at: float | None = None
        """When late rows were last written, by a clock that nobody sets."""
        self._roll_up_from = float("-inf")
        """Monotonic time from which roll-ups are written."""
        self._held = False
        """Whether the step has state of this partition."""
        self._whole = False
        """Whether that state is exactly the log up to :attr:`next`."""
        self._goal = 0
        self._since = 0.0

    def watch(self, now: float) -> None:
        """Also look whether a roll-up is due, and open again after a lost connection.

        A commit that was answered may lack its markers then: see :class:`SourceLane`.
        """
        super().watch(now)
        if self._tap is None or self._rollups is None:
            return
        if self._rollups.producer.lost_connection:
            self._keep = True
            self.read_failed(self._tap, KafkaConnectionError("a connection to Kafka broke"))
        elif self.stats.ready:
            self._arrived.set()

    async def _open(self) -> None:
        self._keep = True  # a failure here says nothing of the state
        await self._take_and_place()
        self._keep = False
        self._finish_if_there()
        if self._publisher is not None:
            self._publisher.start(self.reader)

    async def _take_and_place(self) -> None:
        committed = None
        if self._rollups is not None:
            # Fenced first, or a former owner could still commit.
            self.shared.stats.markers_mended += await self._rollups.producer.fence()
            async with asyncio.timeout(self.shared.options.open_limit_s):
                committed = await self.reader.committed(self.tp)
        if self._whole and committed == self._base:
            return
        self.drop()
        self._since = self.shared.clock.monotonic()
        async with asyncio.timeout(self.shared.options.open_limit_s):
            # The end first: records written between the two questions must not be skipped.
            bounds = await self.reader.bounds(self.tp)
        told = None
        if self._rollups is not None:
            told = self._rollups.told(committed, bounds.last_stable)
        cut = await self._restore(told)
        async with asyncio.timeout(self.shared.options.open_limit_s):
            await self._place_at(cut, told, bounds)
        self._base, self._whole, self._goal = committed, True, bounds.last_stable

    async def _restore(self, told: Cut | None) -> Cut | None:
        """Begin with the frames of closed panes, or with nothing; *told* is what was committed."""
        partition, rollups = self.tp.partition, self._rollups
        self._begin()
        if rollups is None or self._plan is None:
            return None
        cut = rollups.usable(told)
        found = await rollups.restore(cut, self.shared.clock.now_ms(), self.shared.turn)
        if cut is not None and found:
            with own_code():
                self._plan.step.follow(partition, cut)
        elif cut is not None:
            log.error("roll-ups are missing: the deltas are read instead", extra=self._place())
            cut = None
            self._begin()
        if cut is None and told is not None:
            with own_code():
                self._plan.step.publish_from(partition, told)
        rollups.begin(cut)
        return cut

    def _begin(self) -> None:
        """Begin with empty panes."""
        self._drop_panes()
        with own_code():
            self._step.open(self.tp.partition)
        self._held = True

    async def _place_at(self, cut: Cut | None, told: Cut | None, bounds: Bounds) -> None:
        """Set the position to the first record that may hold a row which counts."""
        end, now_ms = bounds.last_stable, self.shared.clock.now_ms()
        since_ms = now_ms - self.shared.options.fold_horizon_ms
        if cut is not None:
            since_ms = max(since_ms, deltas_since(cut, now_ms, FOLD_MARGIN_MS))
        if told is not None and told.panes_until:
            since_ms = min(since_ms, told.panes_until - FOLD_MARGIN_MS)
        start = await self.reader.offset_at(self.tp, max(0, since_ms))
        self.next = end if start is None else min(start, end)
        if told is not None:
            self.next = max(bounds.beginning, min(self.next, told.deltas_end))
        if self._plan is not None:
            await self._note_gaps(self._plan, told, bounds, since_ms)

    async def _note_gaps(
        self, plan: RollupPlan, told: Cut | None, bounds: Bounds, since_ms: int
    ) -> None:
        """Tell the step of which panes deltas may be gone, or are not read."""
        known_ms = since_ms if told is None and self.next > bounds.beginning else 0
        if bounds.beginning > 0 and self.next == bounds.beginning:
            first_ms = await self.reader.first_time_ms(self.tp)
            if told is None or bounds.beginning > told.deltas_end or (first_ms or 0) > since_ms:
                known_ms = self.shared.clock.now_ms() if first_ms is None else first_ms
        if known_ms:
            with own_code():
                plan.step.lack(self.tp.partition, known_ms + FUTURE_AFTER_MS + SKEW_MS)

    async def _settle(self, batch: RecordBatch) -> None:
        now_ms = self.shared.clock.now_ms()
        for chunk in chunks(batch.records, CHUNK_BYTES):
            async with self.shared.turn:
                # An error in the middle leaves the sums undefined.
                self._whole = False
                with own_code():
                    self._step.fold(self.tp.partition, chunk, now_ms)
                self._whole = True
                self.next = chunk[-1].offset + 1
            await asyncio.sleep(0)
        self.next = batch.end
        self._finish_if_there()
        await self._roll_up()

    async def _between(self) -> None:
        if self._inbox:  # it is done after the batch
            return
        async with self.shared.turn:
            pass  # all partitions are woken at once, and windows move with the minute
        await self._roll_up()

    async def _roll_up(self) -> None:
        """Write what is due; nothing is folded meanwhile, because one task does both."""
        rollups, plan, tap = self._rollups, self._plan, self._tap
        if rollups is None or plan is None or tap is None or not self.stats.ready:
            return
        clock, since, partition = self.shared.clock, self._late_at, self.tp.partition
        monotonic = clock.monotonic()
        if monotonic < self._roll_up_from:
            return
        late = since is None or monotonic - since >= LATE_EVERY_MS / 1000
        caught_up = not self._inbox and self.next >= self._end()
        now_ms = clock.now_ms()
        with own_code():
            until = plan.step.closing(
                partition, now_ms, int(monotonic * 1000), caught_up=caught_up, late=late
            )
            if self._watch is None:
                due = until is not None
            else:
                due = self._watch.due(until, now_ms, caught_up=caught_up)
        if not due:
            return
        async with self._working():
            try:
                if until is None:
                    self._base = await rollups.tell(self._base, now_ms) or self._base
                    return
                written = await rollups.commit(self.next, until, now_ms)
            except CLIENT_FAILURES as exc:
                # If it was committed after all, the offset tells, once it is read again.
                self._keep = True
                self._roll_up_from = clock.monotonic() + ROLL_UP_AGAIN_S
                self.shared.stats.transactions_failed += 1
                error = f"{type(exc).__name__}: {exc}"
                log.warning("a roll-up failed", extra={**self._place(), "error": error})
                raise
            self._base = written.committed
            if written.late:
                self._late_at = clock.monotonic()
            if written.token is not None and self._publisher is not None:
                self._publisher.wake(written.token)

    def _end(self) -> int:
        """Return the end of what can be read, as the last fetch told it."""
        offsets, tap = self.reader.offsets(self.tp), self._tap
        if offsets.position is None or offsets.last_stable is None:  # nothing was fetched yet
            return self.next + 1
        if tap is not None and tap.drained and offsets.position >= offsets.last_stable:
            return self.next  # behind the last record there are only markers
        return max(self.next + 1, offsets.last_stable)

    async def _shut(self) -> None:
        await super()._shut()
        if self._publisher is not None:
            await self._publisher.stop()
        if self._rollups is not None:
            await self._rollups.producer.close()

    def _finish_if_there(self) -> None:
        if self.stats.ready or self.next < self._goal:
            return
        with own_code():
            self._step.complete(self.tp.partition)
        self.stats.ready = True
        took_s = self.shared.clock.monotonic() - self._since
        self.shared.stats.refold_s[self.tp.partition] = took_s
        log.info("a partition is folded", extra={**self._place(), "seconds": round(took_s, 3)})

    def lost_membership(self) -> None:
        """Fold anew: while others had the partition, this worker's windows stood still.

        Dropped at once: until it is opened again they would be shown, as this worker is a member.
        """
        self.drop()

    def _retreat(self) -> None:
        keep, self._keep = self._keep, False
        if not keep:  # reading failed: the position may be outside the log
            self.drop()

    def drop(self) -> None:
        """Drop the panes, and what was found in them."""
        self._drop_panes()
        if self._watch is not None:
            self._watch.drop()

    def _drop_panes(self) -> None:
        self._whole = False
        self.stats.ready = False
        if self._held:
            self._held = False
            self._step.close(self.tp.partition)
