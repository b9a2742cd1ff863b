"""Closed panes for the view: roll-up frames, read once, before the deltas that follow them.

The view follows all partitions and commits nothing, so its cut is that of the last frame it read:
frames and the position in the deltas that belongs to them are one transaction of the worker's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.core.errors import InvariantError
from pipeline.core.rollup import SKEW_MS, Cut, cut_in, of_use
from pipeline.fold.board import Board
from pipeline.kit.clients import is_torn, partitions_of, records_until
from pipeline.kit.clock import Clock

log = logging.getLogger(__name__)


class Frames:
    """The roll-ups of all partitions."""

    def __init__(self, topic: str, schema: str, board: Board, clock: Clock) -> None:
        """Read *topic* into *board*.

        Args:
            topic: The full name of the roll-ups.
            schema: Of the workers' boards; frames of another one are of no use.
            board: Its partitions are opened here.
            clock: The machine's.
        """
        self._topic, self._schema = topic, schema
        self._board, self._clock = board, clock
        self._cuts: dict[int, Cut] = {}
        self._refused: dict[int, str] = {}
        """By partition: the epoch that has a frame which cannot be read, or is gone."""

    async def restore(self, consumer: AIOKafkaConsumer, numbers: Collection[int]) -> dict[int, Cut]:
        """Open these partitions with the panes that are closed; of the others nothing is closed.

        Args:
            consumer: Reads committed records alone, and is not used for anything else.
            numbers: The partitions.

        Returns:
            By partition how far its frames reach, where there are any.
        """
        for number in numbers:
            self._open(number)
        known = await partitions_of(consumer, self._topic) or ()
        tps = [TopicPartition(self._topic, number) for number in numbers if number in known]
        if tps:
            consumer.assign(tps)
            await self._read(consumer, tps)
        found = {number: self._cuts[number] for number in numbers if number in self._cuts}
        for number, cut in found.items():
            self._board.follow(number, cut)
        return found

    async def _read(self, consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition]) -> None:
        ends = await consumer.end_offsets(tps)
        # A frame is written after its pane ended.
        since_ms = self._clock.now_ms() - max(self._board.windows_ms) - SKEW_MS
        starts = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
        torn = set()
        for tp in tps:
            start = starts.get(tp)
            offset = ends[tp] if start is None else min(start.offset, ends[tp])
            if await is_torn(consumer, tp, offset):
                torn.add(tp.partition)
            consumer.seek(tp, offset)
        async for records in records_until(consumer, ends):
            for record in records:
                if record.partition in torn:
                    self._refuse(record.partition, record)
                    torn.remove(record.partition)
                self._take(record.partition, record)
                await asyncio.sleep(0)

    def _refuse(self, number: int, record: Any) -> None:
        """Use nothing of the epoch of a record before which frames were deleted."""
        cut = cut_in(record.headers)
        if cut is not None:
            self._refused[number] = cut.epoch

    def _take(self, number: int, record: Any) -> None:
        cut, held = cut_in(record.headers), self._cuts.get(number)
        if cut is None:  # no worker's: they pass over it too
            return
        if cut.schema != self._schema or cut.epoch == self._refused.get(number):
            if held is not None:
                self._open(number)
            return
        if held is None or held.epoch != cut.epoch:
            self._open(number)
        self._cuts[number] = cut
        now_ms = self._clock.now_ms()
        if not of_use(record, now_ms):
            return
        try:
            self._board.restore(number, [record.value or b""], now_ms)
        except InvariantError as exc:
            place = {"partition": number, "offset": record.offset, "error": str(exc)}
            log.error("a roll-up cannot be read: the deltas are read instead", extra=place)  # noqa: TRY400  the sentence is all there is to know
            self._refused[number] = cut.epoch
            self._open(number)

    def _open(self, number: int) -> None:
        self._cuts.pop(number, None)
        self._board.open(number)
