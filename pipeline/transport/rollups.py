"""Roll-ups of one partition of ``mail.deltas``: reading what was written, and writing more.

``mail.rollups`` has one writer per partition, the owner of the transactional id of that partition of
the deltas.  Once the id is taken, everything that was ever written is committed or aborted, so the
end of the log is the end of what there is.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from pipeline.core.batch import (
    Output,
    OutRecord,
    Record,
    RollupStep,
    TopicPartition,
    chunks,
    header,
)
from pipeline.core.rollup import SKEW_MS, Cut, decode_cut, of_use
from pipeline.core.topics import TopicNames
from pipeline.kit.clients import stop_consumer
from pipeline.kit.transactions import Committed, TransactionalProducer
from pipeline.transport.errors import own_code
from pipeline.transport.options import EngineOptions

WAIT_MS: Final = 100
CHUNK_BYTES: Final = 256 << 10
"""Frames handed over between two turns of the event loop."""


@dataclass(frozen=True, slots=True)
class RollupPlan:
    """Which step makes roll-ups, and where they are kept."""

    step: RollupStep
    topic: str
    names: TopicNames
    horizon_ms: int
    """The longest window."""


class Rollups:
    """The roll-ups of one partition, while this worker owns it."""

    def __init__(self, tp: TopicPartition, plan: RollupPlan, options: EngineOptions) -> None:
        """Name the partition of the deltas."""
        self._tp, self._plan, self._options = tp, plan, options
        self._target = TopicPartition(plan.topic, tp.partition)
        self.producer = TransactionalProducer(
            plan.names.transactional_id(tp.topic, tp.partition),
            [plan.topic],
            options.transactions,
            plan.names.app_id,
        )
        self._epoch = ""

    def cut_of(self, committed: Committed | None, last_stable: int) -> Cut | None:
        """Return the cut that *committed* tells of, if frames of it can be used."""
        if committed is None or committed.offset > last_stable:  # the topic was made anew
            return None
        cut = decode_cut(committed.offset, committed.metadata)
        return None if cut is None or cut.schema != self._plan.step.schema else cut

    def begin(self, cut: Cut | None) -> None:
        """Go on in the epoch of *cut*, or begin a new one: nothing is rolled up then."""
        self._epoch = uuid.uuid4().hex if cut is None else cut.epoch

    async def restore(self, cut: Cut, now_ms: int, turn: asyncio.Lock) -> bool:
        """Feed the step the frames of the epoch, up to those of *cut*.

        Args:
            cut: What is committed.
            now_ms: The wall clock.
            turn: Held while computing.

        Returns:
            Whether the last frame of *cut* was there.  If not, the topic lost frames: what was
            fed is of no use.
        """
        options = self._options
        consumer = AIOKafkaConsumer(
            **options.client,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=WAIT_MS,
            max_partition_fetch_bytes=options.partition_fetch_bytes,
            request_timeout_ms=options.request_timeout_ms,
        )
        try:
            await consumer.start()
            return await self._follow(consumer, cut, now_ms, turn)
        finally:
            await stop_consumer(consumer)

    async def _follow(
        self, consumer: AIOKafkaConsumer, cut: Cut, now_ms: int, turn: asyncio.Lock
    ) -> bool:
        partition = KafkaPartition(*self._target)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        # Frames are written after their pane ended, the last ones of the cut perhaps long ago.
        closed_ms = max(cut.closed_until.values(), default=0)
        since_ms = min(now_ms - self._plan.horizon_ms, closed_ms) - SKEW_MS
        found = (await consumer.offsets_for_times({partition: max(0, since_ms)}))[partition]
        consumer.seek(partition, end if found is None else found.offset)
        met = False
        epoch, token = cut.epoch.encode(), cut.token.encode()
        while await consumer.position(partition) < end:
            fetched = await consumer.getmany(timeout_ms=WAIT_MS)
            records: Sequence[Record] = fetched.get(partition, ())
            ours = [record for record in records if header(record.headers, "epoch") == epoch]
            met = met or any(header(record.headers, "token") == token for record in ours)
            for chunk in chunks([one for one in ours if of_use(one, now_ms)], CHUNK_BYTES):
                values = [record.value or b"" for record in chunk]
                async with turn:
                    with own_code():
                        self._plan.step.restore(self._tp.partition, values, now_ms)
                await asyncio.sleep(0)
        return met

    async def commit(
        self, position: int, until: Mapping[int, int], now_ms: int
    ) -> tuple[Committed, bool]:
        """Write a roll-up with the position in the deltas, in one transaction.

        Returns:
            What is committed now, and whether late rows were written.
        """
        step, partition = self._plan.step, self._tp.partition
        cut = Cut(step.schema, self._epoch, uuid.uuid4().hex, until, position)
        records: list[OutRecord] = []
        with own_code():
            frames = step.rollup(partition, until)
        while True:
            with own_code():
                frame = next(frames, None)
            if frame is None:
                break
            records.append(OutRecord(frame[1], None, cut.headers(frame[0])))
            await asyncio.sleep(0)
        prepared = self.producer.prepare([Output(*self._target, records)], now_ms)
        committed = Committed(position, cut.encode())
        await self.producer.commit(prepared, {self._tp: committed})
        with own_code():
            late = step.rolled_up(partition, until)
        return committed, late
