"""Warm-up: what the former owners of a source partition have seen, from ``mail.seen``.

Several raw topics share one partition of ``mail.seen``, and each writer's transactions come in
between.  The reading ends at the run of the last commit: every commit wrote one, with the committed
source offset as its end and the commit's time as its record time (an offset may be committed more
than once, after an operator moved it back).  If there is none (retention took it, or an operator moved the offset), it ends where
the log ended after the fencing: by then every run of the partition had been written.  Neither
end may be taken from ``end_offsets``, which another source's open transaction keeps low.

After an operator moved the offset back, all runs count: what was seen stays seen, so reading
again doubles nothing within the horizon.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from pipeline.core.batch import TopicPartition
from pipeline.core.seen import decode_run
from pipeline.kit.clients import WAIT_MS
from pipeline.transport.options import EngineOptions
from pipeline.transport.tail import reading

log = logging.getLogger(__name__)

YIELD_S = 0.03
"""Work between two turns of the event loop."""


class LastRun(NamedTuple):
    """The run that the last commit of a source partition wrote."""

    end: int
    """The committed source offset."""
    written_ms: int
    """Its record time."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What is to be read for one source partition."""

    tp: TopicPartition
    """The source partition, already fenced."""
    seen: TopicPartition
    last: LastRun | None
    """Where to end, if the committed offset is a commit of ours; None: read all there is."""
    since_ms: int
    """Record time from which runs matter."""

    async def read(self, options: EngineOptions, warm: Callable[[bytes], None]) -> bool:
        """Feed the runs of the partition to *warm*, oldest first.

        Waits as long as it takes: also while Kafka is away, or other transactions hide records.

        Returns:
            Whether there was a run that ends where the last commit does.

        Raises:
            InvariantError: A record is no run, or of a newer program.
        """
        async with reading(options) as consumer:
            await self._seek(consumer)
            return await self._follow(consumer, warm)

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        partition = KafkaPartition(*self.seen)
        consumer.assign([partition])
        # The end first: records written between the two questions must not be skipped.
        end = (await consumer.end_offsets([partition]))[partition]
        found = (await consumer.offsets_for_times({partition: self.since_ms}))[partition]
        consumer.seek(partition, end if found is None else found.offset)

    async def _follow(self, consumer: AIOKafkaConsumer, warm: Callable[[bytes], None]) -> bool:
        partition = KafkaPartition(*self.seen)
        goal: int | None = None
        met = False
        worked_since = time.monotonic()
        while True:
            fetched = await consumer.getmany(timeout_ms=WAIT_MS)
            if goal is None:
                # Of the first answer, which is younger than the fencing.
                goal = consumer.highwater(partition)
            for record in fetched.get(partition, ()):
                if time.monotonic() - worked_since > YIELD_S:
                    await asyncio.sleep(0)
                    worked_since = time.monotonic()
                if record.value is None:
                    continue
                run = decode_run(record.value)
                if (run.topic, run.partition) != self.tp:
                    continue
                warm(record.value)
                if self.last is not None and run.end == self.last.end:
                    met = True
                    if record.timestamp == self.last.written_ms:
                        return True
            if goal is not None and await consumer.position(partition) >= goal:
                return met
