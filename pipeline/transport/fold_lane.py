"""A lane of ``mail.deltas``: the log is the state, so opening it means to read it again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Final

from pipeline.core.batch import FoldStep, Record, TopicPartition
from pipeline.transport.batch import RecordBatch
from pipeline.transport.errors import own_code
from pipeline.transport.lane import Lane, Surroundings

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 256 << 10
"""Frames folded between two turns of the event loop: some thousand rows, 10 to 20 ms."""


class FoldLane(Lane):
    """One partition of phase 2; its state lives through rebalances that leave it here."""

    paced = False

    def __init__(self, tp: TopicPartition, shared: Surroundings, step: FoldStep) -> None:
        """Begin without state."""
        super().__init__(tp, shared)
        self._step = step
        self._held = False
        """Whether the step has state of this partition."""
        self._whole = False
        """Whether that state is exactly the log up to :attr:`next`."""
        self._goal = 0
        self._since = 0.0

    async def _open(self) -> None:
        if self._whole:
            return
        partition, shared = self.tp.partition, self.shared
        self.drop()
        self._since = shared.clock.monotonic()
        async with asyncio.timeout(shared.options.open_limit_s):
            # The end first: records written between the two questions must not be skipped.
            end = (await self.reader.bounds(self.tp)).last_stable
            since_ms = shared.clock.now_ms() - shared.options.fold_horizon_ms
            start = await self.reader.offset_at(self.tp, since_ms)
        with own_code():
            self._step.open(partition)
        self._held = self._whole = True
        self._goal = end
        self.next = end if start is None else min(start, end)
        self._finish_if_there()

    async def _settle(self, batch: RecordBatch) -> None:
        now_ms = self.shared.clock.now_ms()
        for chunk in _chunks(batch.records):
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
        """Fold anew: while others had the partition, this worker's windows stood still."""
        self._whole = False

    def _retreat(self) -> None:
        # Reading failed: the position may be outside the log.
        self.drop()

    def drop(self) -> None:
        """Drop the panes."""
        self._whole = False
        self.stats.ready = False
        if self._held:
            self._held = False
            self._step.close(self.tp.partition)


def _chunks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    start = size = 0
    for place, record in enumerate(records):
        size += len(record.value or b"")
        if size >= CHUNK_BYTES:
            yield records[start : place + 1]
            start, size = place + 1, 0
    if start < len(records):
        yield records[start:]
