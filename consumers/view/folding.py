"""Folding all partitions of the deltas, as a worker folds its own: the view's windows.

Nothing is committed: where a reader begins follows from the frames of closed panes, and from the longest
window where there are none.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from consumers.view.frames import Frames
from pipeline.core.batch import chunks
from pipeline.core.errors import InvariantError, TransientError
from pipeline.core.pane import FUTURE_AFTER_MS, MINUTE_MS
from pipeline.core.rollup import Cut, deltas_since
from pipeline.fold.board import Board
from pipeline.kit.clients import partitions_of, stop_consumer
from pipeline.kit.clock import Clock
from pipeline.kit.connections import heed_closed_connections
from pipeline.kit.kafka import mapped_errors
from pipeline.kit.retry import Backoff
from pipeline.kit.topic_admin import check_broker

log = logging.getLogger(__name__)

SLACK_MS: Final = FUTURE_AFTER_MS + 2 * MINUTE_MS
"""Read beyond the longest window: future events, grace and the clocks' skew."""
LATEST_MS: Final = 30_000
"""Windows are not called complete when the view is further behind."""
REQUEST_TIMEOUT_MS: Final = 10_000
POLL_MS: Final = 200
CHUNK_BYTES: Final = 1 << 20
"""Frames folded in one go: 100 ms at most, then others have their turn."""
_AGAIN: Final = Backoff(base_s=0.2, cap_s=5.0, deadline_s=None)


class Folding:
    """A part of the view's process: keeps a board up to date."""

    name = "folding"

    def __init__(
        self, client: Mapping[str, Any], topic: str, frames: Frames, board: Board, clock: Clock
    ) -> None:
        """Fold *topic* into *board*.

        Args:
            client: ``bootstrap_servers``, security: arguments of every aiokafka client.
            topic: The full name of the deltas.
            frames: What is read before them.
            board: Has no partition open.
            clock: The machine's.
        """
        heed_closed_connections()
        self._client = client
        self._topic = topic
        self._closed = frames
        self._board = board
        self._clock = clock
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy
        self._next: dict[int, int] = {}
        """By open partition: the next offset."""
        self._goals: dict[int, int] = {}
        """By partition that re-folds: the offset at which it is complete."""
        self._current_ms = 0
        self.stopped: dict[int, str] = {}
        """Partitions that cannot be read, with the reason."""
        self.frames = 0
        """Frames folded since the start."""

    @property
    def horizon_ms(self) -> int:
        """Return how far back frames are read."""
        return max(self._board.windows_ms) + SLACK_MS

    @property
    def complete(self) -> bool:
        """Tell whether the windows hold everything up to 30 s ago."""
        partitions = self._board.partitions
        fresh = self._clock.now_ms() - self._current_ms <= LATEST_MS
        return bool(partitions) and all(partitions.values()) and fresh and not self.stopped

    def waiting(self) -> list[str]:
        """Return a sentence for each reason why the windows are not complete."""
        reasons = [f"{self._topic} {number} stopped: {why}" for number, why in self.stopped.items()]
        folded = self._board.partitions
        reasons += [f"{self._topic} {n} is being folded" for n, done in folded.items() if not done]
        if not folded and not self.stopped:
            reasons.append(f"{self._topic} has not been read yet")
        elif self._clock.now_ms() - self._current_ms > LATEST_MS:
            reasons.append("Kafka is away, or the view is more than 30 s behind")
        return reasons

    async def start(self) -> None:
        """Nothing is to be waited for: Kafka may be away."""

    async def run(self) -> None:
        """Fold until cancelled, whatever Kafka does."""
        attempt = 0
        while True:
            begun = self.frames
            try:
                with mapped_errors():
                    async with self._connected() as consumer:
                        await self._follow(consumer)
            except TransientError as exc:
                log.warning("reading the deltas failed, trying again", extra={"error": str(exc)})
            attempt = 0 if self.frames > begun else attempt + 1
            await self._clock.sleep(_AGAIN.wait_s(attempt, self._random))

    async def stop(self) -> None:
        """Nothing is to be finished."""

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AIOKafkaConsumer]:
        client = {**self._client, "request_timeout_ms": REQUEST_TIMEOUT_MS}
        await check_broker(client, client["bootstrap_servers"])
        async with self._consumer("none") as consumer:
            yield consumer

    @asynccontextmanager
    async def _consumer(self, reset: str) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **{**self._client, "request_timeout_ms": REQUEST_TIMEOUT_MS},
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset=reset,
            metadata_max_age_ms=30_000,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await stop_consumer(consumer)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        numbers = await partitions_of(consumer, self._topic)
        if not numbers:
            raise TransientError(f"there is no topic {self._topic} yet")
        tps = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        consumer.assign(tps)
        known = [tp for tp in tps if tp.partition in self._next]
        for tp in known:
            consumer.seek(tp, self._next[tp.partition])
        await self._open(consumer, [tp for tp in tps if tp not in known])
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=POLL_MS)
            except OffsetOutOfRangeError as exc:
                lost = list(exc.args[0])
                log.warning("frames are gone that were not read: folding anew")
                await self._open(consumer, lost)
                continue
            for tp, records in fetched.items():
                await self._fold(consumer, tp, records)
            await self._note(consumer, tps)

    async def _open(self, consumer: AIOKafkaConsumer, tps: Collection[TopicPartition]) -> None:
        """Begin these partitions anew: with their closed panes, and the deltas that no frame has."""
        if not tps:
            return
        # The end first: records written between the two questions must not be skipped.
        ends = await consumer.end_offsets(list(tps))
        beginnings = await consumer.beginning_offsets(list(tps))
        for tp in tps:
            self._next.pop(tp.partition, None)  # until it is placed, a failure begins it anew
        cuts = await self._restored([tp.partition for tp in tps])
        starts = await consumer.offsets_for_times({tp: self._since_ms(tp, cuts) for tp in tps})
        for tp in tps:
            start, cut = starts.get(tp), cuts.get(tp.partition)
            offset = ends[tp] if start is None else min(start.offset, ends[tp])
            goal = ends[tp]
            if cut is not None:
                offset = max(beginnings[tp], min(offset, cut.deltas_end))
                goal = max(goal, cut.deltas_end)
            consumer.seek(tp, offset)
            self._next[tp.partition] = offset
            self._goals[tp.partition] = goal
            self.stopped.pop(tp.partition, None)

    async def _restored(self, numbers: Sequence[int]) -> dict[int, Cut]:
        # Frames that retention takes meanwhile are older than every window.
        async with self._consumer("earliest") as consumer:
            return await self._closed.restore(consumer, numbers)

    def _since_ms(self, tp: TopicPartition, cuts: Mapping[int, Cut]) -> int:
        """Return the record time from which deltas are read."""
        now_ms = self._clock.now_ms()
        since_ms, cut = now_ms - self.horizon_ms, cuts.get(tp.partition)
        return since_ms if cut is None else max(since_ms, deltas_since(cut, now_ms, SLACK_MS))

    async def _fold(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Any]
    ) -> None:
        partition = tp.partition
        if partition in self.stopped:
            return
        try:
            for chunk in chunks(records, CHUNK_BYTES):
                self._board.fold(partition, chunk, self._clock.now_ms())
                self._next[partition] = chunk[-1].offset + 1
                self.frames += len(chunk)
                await asyncio.sleep(0)
        except InvariantError as exc:
            log.error("a partition stopped: %s", exc, extra={"partition": partition})  # noqa: TRY400  the sentence is all there is to know
            self.stopped[partition] = str(exc)
            self._board.close(partition)
            consumer.pause(tp)

    async def _note(self, consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition]) -> None:
        """Note how far the partitions are; behind the last record may stand transaction markers."""
        now_ms = self._clock.now_ms()
        self._board.advance(now_ms)
        behind, heard_ms = False, now_ms
        for tp in tps:
            number = tp.partition
            if number in self.stopped:
                continue
            position = self._next[number] = await consumer.position(tp)
            if number in self._goals and position >= self._goals[number]:
                del self._goals[number]
                self._board.complete(number)
                log.info("a partition is folded", extra={"partition": number})
            behind = behind or position < (consumer.last_stable_offset(tp) or 0)
            heard_ms = min(heard_ms, consumer.last_poll_timestamp(tp) or 0)
        if not behind:
            self._current_ms = max(self._current_ms, heard_ms)
