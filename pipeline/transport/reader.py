"""The reading thread: fetches, gathers what a commit takes, and speaks with the group."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.transport.drivers import aiokafka as stock

from pipeline.core.batch import TopicPartition
from pipeline.core.errors import InvariantError
from pipeline.kit.clients import heed_group_errors, stop_consumer
from pipeline.kit.transactions import Committed
from pipeline.transport.batch import RecordBatch, Tap
from pipeline.transport.options import EngineOptions
from pipeline.transport.unpack import unpack

log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_IDLE_MS = 300_000
"""A member that does not ask for records for this long leaves the group."""
POLL_S = 1.0
RESUME_S = 0.1
PREFETCH_BACKOFF_S = 0.01
"""How long a partition that waits to be taken holds back the next fetch of the others."""
HURRY_MS = 10
"""How long a fetch may wait for records while it leaves out a partition that is full."""


class Bounds(NamedTuple):
    """What can be read of a partition."""

    beginning: int
    last_stable: int


class Offsets(NamedTuple):
    """What the last fetch told about a partition; None until there was one."""

    position: int | None
    high_watermark: int | None
    last_stable: int | None


class ReaderThread(stock.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust is untyped here
    """Faust's consumer thread, reading batches instead of single records.

    Everything but the methods marked *main loop* runs in the thread.
    """

    logger = logging.getLogger("mode")  # else its lines about services come under our name

    options: EngineOptions
    on_heartbeat: Callable[[], None]
    on_failure: Callable[[Tap, BaseException], None]

    def __post_init__(self) -> None:
        """Prepare the state of a thread that has not started."""
        super().__post_init__()
        self.taps: dict[TopicPartition, Tap] = {}
        self._waiter: asyncio.Future[None] | None = None
        # The loop is made by us, to be of the main loop's kind; the thread closes it nevertheless.
        self._close_thread_loop_on_stop = True

    async def on_start(self) -> None:
        """Connect, however long Kafka is away."""
        self.time_started = time.monotonic()
        while not self.should_stop:
            consumer = self._consumer = self._create_consumer(loop=self.thread_loop)
            try:
                await consumer.start()
            except KafkaError as exc:
                log.warning("Kafka cannot be reached, trying again", extra={"error": str(exc)})
                await stop_consumer(consumer)
                await self.sleep(1.0)
                continue
            consumer._fetcher._prefetch_backoff = PREFETCH_BACKOFF_S
            self._hurry_past_full_partitions(consumer._fetcher)
            self._note_heartbeats(consumer._coordinator)
            heed_group_errors(consumer._coordinator)
            return

    async def on_thread_stop(self) -> None:
        """Leave the group."""
        # Past Faust's own, which may raise on the way and then is waited for in vain.
        await super(stock.AIOKafkaConsumerThread, self).on_thread_stop()
        if self._consumer is not None:
            await stop_consumer(self._consumer)

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:  # noqa: ARG002  Faust's signature
        options = self.options
        return AIOKafkaConsumer(
            **options.client,
            client_id=self.app.conf.id,
            group_id=self.app.conf.id,
            # Sticky and co-partitioned; without tables Faust would take round robin.
            partition_assignment_strategy=[self.app.assignor],
            enable_auto_commit=False,
            # An offset outside the log is for the opening of the partition to judge.
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_min_bytes=options.fetch_min_bytes,
            fetch_max_wait_ms=options.fetch_wait_ms,
            max_partition_fetch_bytes=options.partition_fetch_bytes,
            session_timeout_ms=options.session_timeout_ms,
            rebalance_timeout_ms=options.session_timeout_ms,
            heartbeat_interval_ms=options.heartbeat_ms,
            request_timeout_ms=options.request_timeout_ms,
            max_poll_interval_ms=MAX_IDLE_MS,
            metadata_max_age_ms=30_000,
        )

    def _hurry_past_full_partitions(self, fetcher: Any) -> None:
        """Let no fetch wait for records while a partition that is left out has its fill.

        One fetch at a time is on its way: while it waits for partitions that have nothing,
        the full one is worked off and has to wait too.  (An hour's re-fold: 18 s, or 7.)
        """
        actions = fetcher._get_actions_per_node

        def hurried(assignment: Any) -> Any:
            full = bool(fetcher._records)
            fetcher._fetch_max_wait_ms = HURRY_MS if full else self.options.fetch_wait_ms
            return actions(assignment)

        fetcher._get_actions_per_node = hurried

    def _note_heartbeats(self, coordinator: Any) -> None:
        beat = coordinator._do_heartbeat

        async def noted() -> bool:
            alive = bool(await beat())
            if alive:
                self.on_heartbeat()
            return alive

        coordinator._do_heartbeat = noted

    # -- fetching

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: Collection[TopicPartition],
        timeout: float | None = None,  # noqa: ASYNC109  Faust's signature
        max_records: int | None = None,  # noqa: ARG002  Faust's signature
    ) -> dict[TopicPartition, list[RecordBatch]]:
        """Return the batches that are due, waiting for one up to *timeout* seconds."""
        deadline = time.monotonic() + (timeout or POLL_S)
        while self.consumer.flow_active:
            self._check(consumer)
            out, next_at = self._gather(consumer, active_partitions)
            if out:
                return out
            wait = min(deadline, next_at) - time.monotonic()
            if wait <= 0:
                if time.monotonic() >= deadline:
                    break
                continue
            await self._wait(consumer._fetcher, wait)
        return {}

    async def _wait(self, fetcher: Any, seconds: float) -> None:
        """Wait for a fetch, for :meth:`wake`, or for *seconds*."""
        waiter = self._waiter = fetcher._create_fetch_waiter()
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiter = None
        if not waiter.done():
            waiter.cancel()
        elif waiter.exception() is not None:
            log.warning("the group reports an error", extra={"error": repr(waiter.exception())})

    def _check(self, consumer: AIOKafkaConsumer) -> None:
        """Let the coordinator go on after an error; raise if one of aiokafka's tasks ended."""
        coordinator, fetcher = consumer._coordinator, consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        if coordinator._coordination_task.done() or fetcher.error_future.done():
            raise InvariantError("a task of the Kafka consumer ended by itself")
        try:
            # Until its error is taken from it, the coordinator stands still.
            coordinator.check_errors()
        except KafkaError as exc:
            log.error("the consumer group reports an error", extra={"error": repr(exc)})  # noqa: TRY400  its trace is aiokafka's

    def _gather(
        self, consumer: AIOKafkaConsumer, active: Collection[TopicPartition]
    ) -> tuple[dict[TopicPartition, list[RecordBatch]], float]:
        """Take what was fetched; return the batches that are due, and when the next one is."""
        fetcher, subscriptions = consumer._fetcher, consumer._subscription
        out: dict[TopicPartition, list[RecordBatch]] = {}
        next_at = float("inf")
        if subscriptions.reassignment_in_progress:
            return out, next_at
        with subscriptions.fetch_context():
            for partition in list(fetcher._records):
                if partition in active:
                    self._drain(fetcher, partition)
                elif not subscriptions.is_assigned(partition):
                    del fetcher._records[partition]
            now = time.monotonic()
            for tp, tap in self.taps.items():
                due_at = tap.due_at(self.options.commit_interval_ms / 1000)
                if tp not in active:  # Faust is about to resume it
                    next_at = min(next_at, now + RESUME_S)
                elif due_at > now:
                    next_at = min(next_at, due_at)
                else:
                    out[tp] = [tap.release(now)]
        return out, next_at

    def _drain(self, fetcher: Any, partition: KafkaPartition) -> None:
        """Move fetched records of one partition to its tap, as far as it has room."""
        tap = self.taps.get(TopicPartition(*partition))
        result = fetcher._records[partition]
        if tap is None or tap.room == 0:
            return
        error: BaseException | None = None
        if type(result) is FetchResult:
            try:
                unpacked = unpack(result, tap.room, tap.max_size - tap.size)
            except KafkaError as exc:  # a broken record batch
                error = exc
            else:
                tap.take(unpacked, result._assignment.state_value(partition).position)
                if result.has_more():
                    return
        else:
            error = result._error
        fetcher._records.pop(partition, None)
        fetcher._notify(fetcher._wait_consume_future)
        if error is not None:
            del self.taps[tap.tp]
            self.parent_loop.call_soon_threadsafe(self.on_failure, tap, error)

    def wake(self) -> None:
        """Look again: a batch was dealt with (main loop)."""
        self.thread_loop.call_soon_threadsafe(self._nudge)

    def _nudge(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- what partitions ask for (main loop)

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run *work* in the thread and wait for it (main loop)."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))

    async def open_tap(self, tp: TopicPartition, offset: int, *, paced: bool) -> Tap:
        """Seek *tp* to *offset* and begin to read (main loop)."""
        return await self.run(self._open_tap(Tap(tp, offset, paced=paced)))

    async def _open_tap(self, tap: Tap) -> Tap:
        self._ensure_consumer().seek(KafkaPartition(*tap.tp), tap.start)
        self.taps[tap.tp] = tap
        self._nudge()
        return tap

    def close_tap(self, tap: Tap) -> None:
        """Stop reading through *tap* (main loop)."""
        self.thread_loop.call_soon_threadsafe(self._close_tap, tap)

    def _close_tap(self, tap: Tap) -> None:
        if self.taps.get(tap.tp) is tap:
            del self.taps[tap.tp]

    async def committed(self, tp: TopicPartition) -> Committed | None:
        """Return what the group has committed for *tp* (main loop)."""
        partition = KafkaPartition(*tp)
        coordinator = self._ensure_consumer()._coordinator
        found = await self.run(coordinator.fetch_committed_offsets([partition]))
        held = found.get(partition)
        return None if held is None else Committed(held.offset, held.metadata or "")

    async def bounds(self, tp: TopicPartition) -> Bounds:
        """Return the first offset of *tp* and its last stable offset (main loop)."""
        partition, consumer = KafkaPartition(*tp), self._ensure_consumer()
        first = await self.run(consumer.beginning_offsets([partition]))
        last = await self.run(consumer.end_offsets([partition]))
        return Bounds(first[partition], last[partition])

    async def offset_at(self, tp: TopicPartition, time_ms: int) -> int | None:
        """Return the offset of the first stable record from *time_ms* on (main loop)."""
        partition, consumer = KafkaPartition(*tp), self._ensure_consumer()
        found = await self.run(consumer.offsets_for_times({partition: time_ms}))
        place = found[partition]
        return None if place is None else int(place.offset)

    async def first_time_ms(self, tp: TopicPartition) -> int | None:
        """Return the time of the first record that is still there (main loop)."""
        partition, consumer = KafkaPartition(*tp), self._ensure_consumer()
        place = (await self.run(consumer.offsets_for_times({partition: 0})))[partition]
        return None if place is None else int(place.timestamp)

    def offsets(self, tp: TopicPartition) -> Offsets:
        """Return what is known of *tp* without asking Kafka (main loop; reads plain fields)."""
        subscription = self._consumer and self._consumer._subscription.subscription
        assignment = subscription and subscription.assignment
        state = assignment and assignment.state_value(KafkaPartition(*tp))
        if not state:
            return Offsets(None, None, None)
        return Offsets(state._position, state.highwater, state.lso)

    @property
    def is_member(self) -> bool:
        """Whether the group still knows this worker (main loop)."""
        coordinator = self._consumer and self._consumer._coordinator
        return bool(coordinator and coordinator.member_id)

    # -- parts of Faust that have no place here

    def verify_event_path(self, now: float, tp: TopicPartition) -> None:
        """Say nothing of slow streams: the engine watches its partitions itself."""

    def close(self) -> None:
        """Do nothing: Faust would close the clients on the wrong event loop."""
