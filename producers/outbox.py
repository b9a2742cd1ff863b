"""From a source that cannot be pushed back to Kafka: through memory, and while Kafka is away through disk.

Records wait in memory while a batch of them is on its way.  When that fails, or memory is full, all
of them go to the spool, and new ones after them, until the spool has been drained: the order stays.
A batch whose outcome is unknown is written again; its records have ids.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pipeline.core.batch import OutRecord
from pipeline.core.errors import TransientError
from pipeline.kit.clock import Clock
from pipeline.kit.retry import Backoff
from producers.appender import Appender, by_partition
from producers.spool import Spool

log = logging.getLogger(__name__)

DRAINED: Final = 2000
"""Records taken from the spool at a time."""
_FLUSH_S: Final = 3.0
_BACKOFF: Final = Backoff(base_s=0.1, cap_s=2.0, deadline_s=None)


class Outbox:
    """Takes records at any time, and writes them when it can."""

    name = "outbox"

    def __init__(
        self,
        appender: Appender,
        spool: Spool,
        topic: str,
        partitions: int,
        clock: Clock,
        *,
        memory_bytes: int,
        sent: Callable[[int], None],
        dropped: Callable[[int], None],
    ) -> None:
        """Write to *topic*.

        Args:
            appender: Before Kafka.
            spool: Where records wait while Kafka is away.
            topic: Its full name.
            partitions: It has so many.
            clock: For back-off.
            memory_bytes: Most bytes of values that wait in memory.
            sent: Told how many records Kafka acknowledged.
            dropped: Told how many had no room.
        """
        self._appender = appender
        self._spool = spool
        self._topic = topic
        self._partitions = partitions
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._sent = sent
        self._dropped = dropped
        self._waiting: list[OutRecord] = []
        self._sending: list[OutRecord] = []
        """On their way; empty when they were spooled in the meantime."""
        self._held = 0
        self._some = asyncio.Event()
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy

    @property
    def held_bytes(self) -> int:
        """Return the bytes of values that wait in memory."""
        return self._held

    def put(self, records: Sequence[OutRecord]) -> None:
        """Take *records*; never waits."""
        if not records:
            return
        self._some.set()
        if self._spool:
            self._to_spool(records)
            return
        self._waiting += records
        self._held += _size(records)
        if self._held > self._memory_bytes:
            self._spill()

    async def start(self) -> None:
        """Go on with what an earlier process left in the spool."""
        if self._spool:
            log.info("records wait in the spool", extra={"records": self._spool.records})
            self._some.set()

    async def run(self) -> None:
        """Write until cancelled."""
        attempt = 0
        while True:
            await self._some.wait()
            try:
                if self._spool:
                    await self._drain()
                elif self._waiting:
                    await self._send()
                else:
                    self._some.clear()
                attempt = 0
            except TransientError as exc:
                if not attempt:
                    log.warning("records go to the spool", extra={"error": str(exc)})
                self._spill()
                await self._clock.sleep(_BACKOFF.wait_s(attempt, self._random))
                attempt += 1

    async def stop(self) -> None:
        """Write what waits in memory, to Kafka if it takes it at once, else to the spool."""
        self._waiting, self._sending = [*self._sending, *self._waiting], []
        try:
            if self._waiting and not self._spool:
                async with asyncio.timeout(_FLUSH_S):
                    await self._send()
        except (TransientError, TimeoutError):
            log.warning("Kafka takes no records: they wait in the spool")
        self._spill()
        self._spool.close()

    async def _send(self) -> None:
        batch = self._sending = self._waiting
        self._waiting = []
        await self._append(batch)
        if self._sending is batch:
            self._sending = []
            self._held -= _size(batch)
            self._sent(len(batch))

    async def _drain(self) -> None:
        """Write the oldest records of the spool."""
        batch = self._spool.peek(DRAINED)
        if not batch:
            return
        await self._append(batch)
        self._spool.drop(batch)
        self._sent(len(batch))

    def _spill(self) -> None:
        """Move what is in memory to the spool, what is on its way too: it may be in vain."""
        records = [*self._sending, *self._waiting]
        self._sending, self._waiting, self._held = [], [], 0
        if records:
            self._to_spool(records)

    def _to_spool(self, records: Sequence[OutRecord]) -> None:
        kept = self._spool.append(records)
        if kept < len(records):
            self._dropped(len(records) - kept)

    async def _append(self, records: Sequence[OutRecord]) -> None:
        await self._appender.append(by_partition(records, self._topic, self._partitions))


def _size(records: Iterable[OutRecord]) -> int:
    return sum(len(record.value) for record in records)
