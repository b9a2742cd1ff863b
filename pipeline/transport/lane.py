"""Lanes: one assigned partition, from its opening to its revocation, as one task.

A lane opens its partition, retrying until that succeeds; works off batches; and after a failure
of Kafka's opens it again, in place.  Nothing that happens in one lane stops another or the
worker.  What is neither Kafka's failure nor a bad record is a contradiction in our own state:
the lane stops for good, unready, and says why.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from pipeline.core.batch import TopicPartition
from pipeline.core.engine_stats import EngineStats, PartitionStats
from pipeline.core.errors import MailstreamError
from pipeline.kit.clock import Clock
from pipeline.kit.retry import Backoff
from pipeline.kit.transactions import CLIENT_FAILURES
from pipeline.transport.batch import RecordBatch, Tap
from pipeline.transport.errors import LogGapError, OutOfLogError
from pipeline.transport.options import EngineOptions
from pipeline.transport.reader import ReaderThread

log = logging.getLogger(__name__)

LOST_S: Final = 10.0
"""A batch that was read and did not reach its lane for this long is read again."""
CANCEL_S: Final = 10.0


class Turn:
    """Lets one partition compute in one turn of the event loop, however many are ready."""

    def __init__(self) -> None:
        """Begin with nobody at work."""
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        """Wait until it is the caller's turn."""
        await self._lock.acquire()
        # While it is held: a lock that is free is taken without a turn of the loop in between.
        try:
            await asyncio.sleep(0)
        except BaseException:
            self._lock.release()
            raise

    async def __aexit__(self, *exc: object) -> None:
        """Let the next one compute."""
        self._lock.release()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all lanes of an engine share."""

    options: EngineOptions
    stats: EngineStats
    clock: Clock
    turn: Turn = field(default_factory=Turn)
    """Taken for computing."""


class Lane(ABC):
    """One partition while it belongs to this worker, and through rebalances that leave it here."""

    paced: bool

    def __init__(self, tp: TopicPartition, shared: Surroundings) -> None:
        """Begin without state."""
        self.tp = tp
        self.shared = shared
        self.stats = PartitionStats(tp)
        self.next = 0
        """The log position up to which everything is done."""
        self.reader: ReaderThread
        self._tap: Tap | None = None
        self._inbox: deque[RecordBatch] = deque()
        self._arrived = asyncio.Event()
        self._failure: BaseException | None = None
        self._missing_since: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._suspending = False
        self._task: asyncio.Task[None] | None = None
        self._attempt = 0
        self._rng = random.Random()  # noqa: S311  jitter needs no secrecy

    # -- what the engine calls

    def start(self, reader: ReaderThread) -> None:
        """Open the partition and work, in a task of its own."""
        if self.stats.stopped is not None or self._task is not None:
            return
        self.reader = reader
        self._suspending = False
        self._attempt = 0
        self._task = asyncio.create_task(self._run(), name=f"{self.tp.topic}-{self.tp.partition}")
        self._task.add_done_callback(self._ended)

    def put(self, batch: RecordBatch) -> None:
        """Take a batch that was read; what is stale is left out when its turn comes."""
        batch.tap.received += 1
        self._inbox.append(batch)
        self._arrived.set()

    def read_failed(self, tap: Tap, error: BaseException) -> None:
        """Open again: reading through *tap* ended with *error*."""
        if tap is self._tap:
            self._failure = error
            self._arrived.set()

    def watch(self, now: float) -> None:
        """Look after batches that got lost in Faust and positions; called about once a second."""
        tap = self._tap
        if tap is None or tap.received >= tap.delivered:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        elif now - self._missing_since > LOST_S:
            self._missing_since = None
            self.read_failed(tap, LogGapError("a batch did not arrive"))
        self._show_offsets()

    async def suspend(self) -> None:
        """End the task, letting a running transaction end first, within half a session."""
        self._suspending = True
        task = self._task
        if task is not None:
            if self.stats.stopped is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.shared.options.drain_s):
                        await self._idle.wait()
                task.cancel()
            await self._end_of(task)
            self._task = None
        await self._shut()

    async def _end_of(self, task: asyncio.Task[None]) -> None:
        """Wait for *task*, however long it takes: two tasks of one lane could commit twice."""
        while not (await asyncio.wait([task], timeout=CANCEL_S))[0]:
            log.error("a partition's task does not end", extra=self._place())
            task.cancel()

    @abstractmethod
    def drop(self) -> None:
        """Forget the step's state: the partition is another worker's."""

    @abstractmethod
    def lost_membership(self) -> None:
        """The group went on without this worker for a while."""

    # -- what kinds of lanes do

    @abstractmethod
    async def _open(self) -> None:
        """Get ready to work at :attr:`next`."""

    @abstractmethod
    async def _settle(self, batch: RecordBatch) -> None:
        """Deal with the whole batch."""

    @abstractmethod
    async def _between(self) -> None:
        """Do what is due while no batch waits; called after each wake-up."""

    @abstractmethod
    def _retreat(self) -> None:
        """Kafka failed: the partition will be opened again."""

    async def _shut(self) -> None:
        """Stop reading; the state stays."""
        self._inbox.clear()
        self._failure = None
        tap, self._tap = self._tap, None
        if tap is not None:
            self.reader.close_tap(tap)

    # -- the task

    async def _run(self) -> None:
        backoff = Backoff(cap_s=self.shared.options.retry_cap_s)
        # A zombie learns from its next heartbeat that it is one.
        heartbeat_s = self.shared.options.heartbeat_ms / 1000
        while True:
            try:
                await self._open()
                await self._seek()
                await self._serve()
            except (*CLIENT_FAILURES, OutOfLogError) as exc:
                log.warning(
                    "a partition is opened again after a failure",
                    extra={**self._place(), "error": f"{type(exc).__name__}: {exc}"},
                )
            self._retreat()
            await self._shut()
            wait_s = heartbeat_s + backoff.wait_s(self._attempt, self._rng)
            self._attempt += 1
            await self.shared.clock.sleep(wait_s)

    async def _seek(self) -> None:
        self._inbox.clear()
        self._tap = await self.reader.open_tap(self.tp, self.next, paced=self.paced)

    async def _serve(self) -> None:
        while True:
            try:
                batch = await self._next_batch()
                tap = batch.tap
                if tap is not self._tap:  # read before the last seek
                    continue
                if batch.start != self.next:
                    raise LogGapError(f"a batch starts at {batch.start} instead of {self.next}")  # noqa: TRY301  one way back
            except LogGapError as exc:
                log.warning("a batch is read again", extra={**self._place(), "error": str(exc)})
                await self._seek()
                continue
            await self._settle(batch)
            self.next = batch.end
            tap.taken += 1
            self.reader.wake()
            self._attempt = 0

    async def _next_batch(self) -> RecordBatch:
        while not self._inbox:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            self._arrived.clear()
            await self._arrived.wait()
            await self._between()
        return self._inbox.popleft()

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """Hold off a suspension; never begins during one."""
        if self._suspending:
            await asyncio.get_running_loop().create_future()  # until the task is cancelled
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        self.stats.ready = False
        self.stats.stopped = f"{type(error).__name__}: {error}"
        foreseen = isinstance(error, MailstreamError)
        log.error(
            "a partition stopped for good",
            extra={**self._place(), "error": self.stats.stopped},
            exc_info=None if foreseen else error,
        )
        self.drop()
        self._task = asyncio.create_task(self._shut())

    def _place(self) -> dict[str, object]:
        return {"topic": self.tp.topic, "partition": self.tp.partition}

    def _show_offsets(self) -> None:
        offsets, tap = self.reader.offsets(self.tp), self._tap
        drained = tap is not None and tap.drained and offsets.position is not None
        # Behind the last record there are transaction markers, which no batch ends with.
        self.stats.position = max(self.next, offsets.position or 0) if drained else self.next
        if offsets.high_watermark is not None:
            self.stats.high_watermark = offsets.high_watermark
        if offsets.last_stable is not None:
            self.stats.last_stable_offset = offsets.last_stable
