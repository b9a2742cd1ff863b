"""Roll-ups of one partition of ``mail.deltas``: reading what was written, and writing more.

``mail.rollups`` has one writer per partition, the owner of the transactional id of that partition of
the deltas.  Once the id is taken, everything that was ever written is committed or aborted, so the
end of the log is the end of what there is.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from pipeline.core.batch import (
    AlertStep,
    Output,
    OutRecord,
    Record,
    RollupStep,
    TopicPartition,
    chunks,
    header,
)
from pipeline.core.rollup import (
    PANES_TIER,
    SKEW_MS,
    WATCH,
    Cut,
    cut_in,
    decode_cut,
    encode_rollup,
    of_use,
)
from pipeline.core.topics import TopicNames
from pipeline.kit.clients import is_torn, partitions_of, records_until
from pipeline.kit.transactions import Committed, TransactionalProducer
from pipeline.transport.errors import own_code
from pipeline.transport.lane import Turn
from pipeline.transport.options import EngineOptions
from pipeline.transport.tail import reading

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 256 << 10
"""Frames handed over between two turns of the event loop."""


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """Which step finds anomalies, where they are written, and where events tell more of them."""

    step: AlertStep
    topic: str
    events: str


@dataclass(frozen=True, slots=True)
class RollupPlan:
    """Which step makes roll-ups, and where they are kept."""

    step: RollupStep
    topic: str
    names: TopicNames
    horizon_ms: int
    """The longest window."""
    publishes: bool = False
    """Whether this worker publishes closed panes."""
    watch: WatchPlan | None = None
    """What looks for anomalies in the panes, if anything does."""


class RolledUp(NamedTuple):
    """What was written."""

    committed: Committed
    late: bool
    """Whether late rows were in it."""
    token: str | None
    """Of the roll-up, if panes for consumers were in it."""


class Rollups:
    """The roll-ups of one partition, while this worker owns it."""

    def __init__(self, tp: TopicPartition, plan: RollupPlan, options: EngineOptions) -> None:
        """Name the partition of the deltas."""
        self._tp, self._plan, self._options = tp, plan, options
        self._target = TopicPartition(plan.topic, tp.partition)
        self.producer = TransactionalProducer(
            plan.names.transactional_id(tp.topic, tp.partition),
            [plan.topic] if plan.watch is None else [plan.topic, plan.watch.topic],
            options.transactions,
            plan.names.app_id,
        )
        self._epoch = ""

    def told(self, committed: Committed | None, last_stable: int) -> Cut | None:
        """Return the cut that *committed* tells of, of whatever schema."""
        if committed is None or committed.offset > last_stable:  # the topic was made anew
            return None
        return decode_cut(committed.offset, committed.metadata)

    def usable(self, cut: Cut | None) -> Cut | None:
        """Return *cut* if its frames can be used."""
        return None if cut is None or cut.schema != self._plan.step.schema else cut

    def begin(self, cut: Cut | None) -> None:
        """Go on in the epoch of *cut*, or begin a new one: nothing is rolled up then."""
        self._epoch = uuid.uuid4().hex if cut is None else cut.epoch

    async def restore(self, cut: Cut | None, now_ms: int, turn: Turn) -> bool:
        """Feed the step the frames of the epoch, up to those of *cut*, and the watch its own.

        Args:
            cut: What is committed and of use, if anything is.
            now_ms: The wall clock.
            turn: Held while computing.

        Returns:
            Whether the last frame of *cut* was there.  If not, the topic is gone or lost frames:
            what the step was fed is of no use.
        """
        watch = self._plan.watch
        if cut is None and watch is None:
            return False
        async with reading(self._options) as consumer:
            if watch is not None:
                await self._recall(consumer, watch)
            return await self._follow(consumer, cut, now_ms, turn)

    async def _recall(self, consumer: AIOKafkaConsumer, watch: WatchPlan) -> None:
        """Feed the watch all alerts."""
        with own_code():
            watch.step.open(self._tp.partition)
        partition = KafkaPartition(watch.topic, self._tp.partition)
        if partition.partition not in await partitions_of(consumer, watch.topic):
            return
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        values = []
        async for records in records_until(consumer, await consumer.end_offsets([partition])):
            values += [record.value or b"" for record in records]
        with own_code():
            unreadable = watch.step.restore(self._tp.partition, values)
        if unreadable:
            log.error("records are no alerts", extra={"topic": watch.topic, "records": unreadable})

    async def _follow(
        self, consumer: AIOKafkaConsumer, cut: Cut | None, now_ms: int, turn: Turn
    ) -> bool:
        partition = KafkaPartition(*self._target)
        if self._target.partition not in await partitions_of(consumer, self._target.topic):
            return False  # a topic that is not there would be waited for without end
        consumer.assign([partition])
        ends = await consumer.end_offsets([partition])
        since_ms = now_ms - self._plan.horizon_ms
        if cut is not None:
            # Frames are written after their pane ended, the last ones of the cut perhaps long ago.
            since_ms = min(since_ms, max(cut.closed_until.values(), default=0))
        since_ms = max(0, since_ms - SKEW_MS)
        found = (await consumer.offsets_for_times({partition: since_ms}))[partition]
        start = ends[partition] if found is None else found.offset
        torn = await is_torn(consumer, partition, start)
        consumer.seek(partition, start)
        met = False
        async for records in records_until(consumer, ends):
            for record in records:
                await self._learn(record)
            if cut is None:
                continue
            epoch, token = cut.epoch.encode(), cut.token.encode()
            if torn and records:
                if header(records[0].headers, "epoch") == epoch:
                    cut = None  # some of its frames may be gone that windows need
                    continue
                torn = False
            ours = [record for record in records if header(record.headers, "epoch") == epoch]
            met = met or any(header(record.headers, "token") == token for record in ours)
            for chunk in chunks([one for one in ours if of_use(one, now_ms)], CHUNK_BYTES):
                values = [record.value or b"" for record in chunk]
                async with turn:
                    with own_code():
                        self._plan.step.restore(self._tp.partition, values, now_ms)
                await asyncio.sleep(0)
        return met and cut is not None

    async def _learn(self, record: Record) -> None:
        watch = self._plan.watch
        if watch is None or header(record.headers, "tier") != WATCH.encode():
            return
        written = cut_in(record.headers)
        if written is not None:
            with own_code():
                watch.step.learn(self._tp.partition, record.value or b"", written.closed_until)
            await asyncio.sleep(0)

    async def commit(self, position: int, until: Mapping[int, int], now_ms: int) -> RolledUp:
        """Write a roll-up, and what the watch has to tell, with the position in the deltas.

        All in one transaction.
        """
        step, watch, partition = self._plan.step, self._plan.watch, self._tp.partition
        cut = Cut(step.schema, self._epoch, uuid.uuid4().hex, until, position)
        records: list[OutRecord] = []
        panes = False
        with own_code():
            frames = step.rollup(partition, until)
        while True:
            with own_code():
                frame = next(frames, None)
            if frame is None:
                break
            panes = panes or frame[0] == PANES_TIER
            records.append(OutRecord(frame[1], None, cut.headers(frame[0])))
            await asyncio.sleep(0)
        outputs = [Output(*self._target, records)]
        if watch is not None:
            with own_code():
                told = watch.step.told(partition)
            headers = cut.headers(WATCH)
            records += [OutRecord(value, None, headers) for value in told.frames]
            if told.alerts:
                outputs.append(Output(watch.topic, partition, told.alerts))
        committed = await self._write(cut, outputs, now_ms)
        with own_code():
            late = step.rolled_up(partition, until)
            if watch is not None:
                watch.step.written(partition)
        return RolledUp(committed, late, cut.token if panes else None)

    async def tell(self, base: Committed | None, now_ms: int) -> Committed | None:
        """Write the alerts alone: the roll-up of *base* is committed again, under another token.

        Before the epoch has a roll-up nothing is written, and the alerts go with it.

        Args:
            base: What is committed.
            now_ms: The wall clock.

        Returns:
            What is committed now, or None.
        """
        watch, partition = self._plan.watch, self._tp.partition
        told = None if base is None else decode_cut(base.offset, base.metadata)
        if watch is None or told is None or told.epoch != self._epoch:
            return None
        cut = replace(told, token=uuid.uuid4().hex)
        with own_code():
            alerts = watch.step.told(partition).alerts
        # A frame without rows, by whose token the transaction is found again.
        nothing = OutRecord(encode_rollup(0, []), None, cut.headers(WATCH))
        outputs = [Output(*self._target, [nothing]), Output(watch.topic, partition, alerts)]
        committed = await self._write(cut, outputs, now_ms)
        with own_code():
            watch.step.written(partition, frames=False)
        return committed

    async def _write(self, cut: Cut, outputs: Sequence[Output], now_ms: int) -> Committed:
        prepared = self.producer.prepare(outputs, now_ms)
        committed = Committed(cut.deltas_end, cut.encode())
        await self.producer.commit(prepared, {self._tp: committed})
        return committed
