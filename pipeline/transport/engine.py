"""The engine: runs the pure steps over Kafka, exactly once, for as long as it is asked to.

Usage::

    engine = Engine(names, options, source_topics, fold_topic, seen_topic, source, fold, stats, clock)

    @engine.app.agent(engine.source_batches)
    async def enrich(stream):
        async for batch in stream:
            await engine.process(batch)

and the same with ``engine.fold_batches``; then :func:`pipeline.transport.worker.run_worker`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from pipeline.core.batch import FoldStep, SourceStep, TopicPartition
from pipeline.core.engine_stats import EngineStats
from pipeline.core.errors import InvariantError
from pipeline.core.topics import TopicNames
from pipeline.kit.clock import Clock
from pipeline.kit.connections import heed_closed_connections
from pipeline.transport.batch import RecordBatch, Tap
from pipeline.transport.compression import set_zstd_level
from pipeline.transport.driver import BatchApp
from pipeline.transport.fold_lane import FoldLane
from pipeline.transport.lane import Lane, Surroundings
from pipeline.transport.options import EngineOptions
from pipeline.transport.reader import ReaderThread
from pipeline.transport.rollups import RollupPlan
from pipeline.transport.source_lane import SourceLane

log = logging.getLogger(__name__)

WATCH_S: Final = 1.0
STOP_S: Final = 10.0
"""How long Faust and the group may take to let go, once nothing is being written any more."""


class Engine:
    """One worker's engine; also a part of a process (``name``, ``start``, ``run``, ``stop``)."""

    name = "engine"

    def __init__(
        self,
        names: TopicNames,
        options: EngineOptions,
        source_topics: Sequence[str],
        fold_topic: str,
        seen_topic: str,
        source: SourceStep,
        fold: FoldStep,
        stats: EngineStats,
        clock: Clock,
        rollups: RollupPlan | None = None,
    ) -> None:
        """Set up; nothing is opened.  Topics are full names.  Call it in the event loop.

        With *rollups*, the fold's closed panes are rolled up and recovered from there.
        """
        self.options = options
        self.stats = stats
        self._names = names
        self._fold_topic = fold_topic
        self._seen_topic = seen_topic
        self._source = source
        self._fold = fold
        self._rollups = rollups
        self._clock = clock
        self._shared = Surroundings(options, stats, clock)
        self._lanes: dict[TopicPartition, Lane] = {}
        self._stopping = False
        self._starting: asyncio.Task[None] | None = None
        heed_closed_connections()
        if options.compression == "zstd":
            set_zstd_level()
        self.app: Any = BatchApp(names.app_id, self)
        """The Faust application, for ``@app.agent`` and ``@app.timer``."""
        self.source_batches: Any = self.app.batches(*source_topics)
        """Channel of the raw topics' batches."""
        self.fold_batches: Any = self.app.batches(fold_topic)
        """Channel of the batches of ``mail.deltas``."""

    async def process(self, batch: RecordBatch) -> None:
        """Hand a batch to its partition, which commits or folds it in its own time.

        Returns at once and never raises: at most two batches of a partition are on their way,
        and a failure is the partition's business.
        """
        lane = self._lanes.get(batch.tp)
        if lane is not None:
            lane.put(batch)

    @property
    def is_ready(self) -> bool:
        """Whether this worker has joined the group and all its partitions are ready."""
        joined = self.stats.rebalances > 0
        return joined and all(partition.ready for partition in self.stats.partitions.values())

    # -- a part of the process

    async def start(self) -> None:
        """Begin to join the group; returns at once, however long Kafka is away."""
        self.app.finalize()
        self._starting = asyncio.create_task(self.app.start(), name="faust")

    async def run(self) -> None:
        """Watch over the partitions until cancelled.

        Raises:
            InvariantError: Faust or a Kafka client ended by itself.
        """
        assert self._starting is not None
        while True:
            await asyncio.sleep(WATCH_S)
            if self._starting.done() and self._starting.exception() is not None:
                raise InvariantError("Faust did not start") from self._starting.exception()
            if self.app.crashed:
                raise InvariantError(f"Faust ended: {self.app.crash_reason!r}")
            now = self._clock.monotonic()
            for lane in self._lanes.values():
                lane.watch(now)

    async def stop(self) -> None:
        """Let running transactions end, close the partitions, leave the group."""
        self._stopping = True
        await self._suspend_all()
        for lane in self._lanes.values():
            lane.drop()
        self._lanes.clear()
        self.stats.partitions.clear()
        await self.app.stop()
        if self._starting is not None:
            _, late = await asyncio.wait([self._starting], timeout=STOP_S)
            for task in late:
                task.cancel()

    # -- what the driver tells

    async def on_revoked(self, reader: ReaderThread) -> None:
        """Suspend all partitions: the rebalance is eager."""
        await self._suspend_all()
        if not reader.is_member:
            for lane in self._lanes.values():
                lane.lost_membership()

    async def on_assigned(self, reader: ReaderThread, tps: set[TopicPartition]) -> None:
        """Drop what went to others, open what is ours."""
        if self._stopping:
            return
        self.stats.rebalances += 1
        self.on_heartbeat()
        for tp in [tp for tp in self._lanes if tp not in tps]:
            self._lanes.pop(tp).drop()
            del self.stats.partitions[tp]
        for tp in sorted(tps):
            lane = self._lanes.get(tp)
            if lane is None:
                lane = self._lanes[tp] = self._new_lane(tp)
                self.stats.partitions[tp] = lane.stats
            lane.start(reader)
        log.info("partitions were assigned", extra={"partitions": len(tps)})

    def on_heartbeat(self) -> None:
        """Note that the group coordinator knows this worker."""
        self.stats.last_heartbeat_ms = self._clock.now_ms()

    def on_read_failure(self, tap: Tap, error: BaseException) -> None:
        """Tell the partition that its reading ended."""
        lane = self._lanes.get(tap.tp)
        if lane is not None:
            lane.read_failed(tap, error)

    def _new_lane(self, tp: TopicPartition) -> Lane:
        if tp.topic == self._fold_topic:
            return FoldLane(tp, self._shared, self._fold, self._rollups)
        return SourceLane(tp, self._shared, self._names, self._source, self._seen_topic)

    async def _suspend_all(self) -> None:
        await asyncio.gather(*(lane.suspend() for lane in self._lanes.values()))
