"""Reading one topic for as long as it lasts: group or none, through restarts of Kafka.

What aiokafka leaves to its user: where partitions without a committed offset begin, what is still
ours after a rebalance, commits that count only what was handled, and a client that has died.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from consumers.start import Start, first_offset
from pipeline.core.errors import ConfigError, FencedError, TransientError
from pipeline.kit.clients import heed_group_errors, partitions_of, stop_consumer
from pipeline.kit.clock import Clock
from pipeline.kit.closing import close_within
from pipeline.kit.connections import heed_closed_connections
from pipeline.kit.kafka import mapped_errors
from pipeline.kit.retry import Backoff
from pipeline.kit.topic_admin import check_broker

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_MS: Final = 10_000
SESSION_TIMEOUT_MS: Final = 10_000
MAX_IDLE_MS: Final = 300_000
"""A member that handles its records for longer leaves the group; others get them again."""
PARTITION_FETCH_BYTES: Final = 1 << 20
"""With the largest record, the memory that a partition may take."""
FETCH_BYTES: Final = 16 << 20
POLL_MS: Final = 200
MAX_RECORDS: Final = 500
"""Records handed out at once."""
COMMIT_S: Final = 1.0
COMMIT_LIMIT_S: Final = 4.0
CLOSE_S: Final = 12.0
_AGAIN: Final = Backoff(base_s=0.2, cap_s=5.0, deadline_s=None)


Positions: TypeAlias = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""Returns the offsets at which partitions go on, by number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """What is read, and as whom."""

    client: Mapping[str, Any]
    """``bootstrap_servers``, security: arguments of every aiokafka client."""
    topic: str
    group: str | None
    """The members of a group share the partitions, and Kafka keeps where they stand."""
    start: Start
    """Where partitions begin for which the group has committed nothing yet."""
    positions: Positions | None = None
    """What knows better than Kafka where partitions go on; *start* is for those it does not know."""
    max_records: int = MAX_RECORDS


class Records(NamedTuple):
    """Some records, and the turn in which they are ours."""

    turn: int
    records: list[tuple[TopicPartition, Any]]


class Reader:
    """Reads committed records of one topic.

    Use: :meth:`open`, then :meth:`read`, :meth:`handled` and :meth:`commit_if_due` by turns, and
    :meth:`close` in any case.
    """

    def __init__(self, options: ReaderOptions, clock: Clock) -> None:
        """Prepare; nothing is connected yet."""
        heed_closed_connections()
        self._options = options
        self._clock = clock
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = 0
        self._assigned: set[TopicPartition] = set()
        self._placed: set[TopicPartition] = set()
        """Those of the assigned partitions that were sought: only their records are handed out."""
        self._next: dict[TopicPartition, int] = {}
        """The offset after what was handled."""
        self._committed: dict[TopicPartition, int] = {}
        self._committing = asyncio.Lock()
        self._commit_at = 0.0
        self._was_there = False
        """Whether the topic has been seen: a broker that starts may not show it yet."""

    async def open(self) -> None:
        """Connect.

        Raises:
            TransientError: Kafka does not answer.
            ConfigError: There is no such topic, or Kafka refuses us.
        """
        try:
            with mapped_errors():
                await self._connect()
        except BaseException:
            await self._leave()
            raise

    async def _connect(self) -> None:
        options = self._options
        client = {**options.client, "request_timeout_ms": REQUEST_TIMEOUT_MS}
        await check_broker(client, options.client["bootstrap_servers"])
        consumer = self._consumer = self._made(client)
        await consumer.start()
        numbers = await partitions_of(consumer, options.topic)
        if numbers:
            self._was_there = True
        elif self._was_there:
            raise TransientError(f"Kafka does not show the topic {options.topic}")
        else:
            raise ConfigError(
                [f"there is no topic {options.topic}: `mailstream topics create` makes it"]
            )
        self._take(consumer, numbers)

    async def read(self) -> Records:
        """Return the next records, however long they are in coming, and whatever Kafka does.

        Raises:
            ConfigError: Kafka refuses us.
            InvariantError: The client contradicts itself.
        """
        attempt = 0
        while True:
            try:
                with mapped_errors():
                    return await self._read()
            except (TransientError, FencedError) as exc:
                log.warning("reading failed, trying again", extra={"error": str(exc)})
            await self._leave()
            await self._clock.sleep(_AGAIN.wait_s(attempt, self._random))
            attempt += 1
            with suppress(TransientError):
                await self.open()

    def holds(self, records: Records) -> bool:
        """Tell whether *records* are still ours: after a rebalance they are read again."""
        return records.turn == self._turn

    def handled(self, records: Records, tp: TopicPartition, offset: int) -> None:
        """Note that the record at *offset* was handled, so that it need not be read again."""
        if self.holds(records):
            self._next[tp] = offset + 1

    def again(self) -> None:
        """Read on from where partitions are said to go on, not after what was read."""
        self._end_turn()

    def waiting(self) -> int | None:
        """Return how many records wait in our partitions; None while that is not known."""
        if self._consumer is None or not self._placed:
            return None
        marks = {tp: self._consumer.highwater(tp) for tp in self._placed}
        waiting: int = sum(
            max(0, mark - self._next[tp]) for tp, mark in marks.items() if mark is not None
        )
        return waiting

    async def commit_if_due(self) -> None:
        """Commit what was handled if the last commit is some time ago."""
        if self._options.group is not None and self._clock.monotonic() >= self._commit_at:
            await self._commit()

    async def close(self) -> None:
        """Commit what was handled and disconnect, within seconds; Kafka may be away."""
        await close_within(self._closed(), CLOSE_S)

    async def _closed(self) -> None:
        await self._commit()
        await self._leave()

    async def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._end_turn()
        self._assigned = set()
        if consumer is not None:
            await stop_consumer(consumer)

    def _made(self, client: Mapping[str, Any]) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **client,
            group_id=self._options.group,
            enable_auto_commit=False,
            # Where a partition begins is for us to say, and a lost offset not to be passed over.
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 10,
            rebalance_timeout_ms=SESSION_TIMEOUT_MS,
            max_poll_interval_ms=MAX_IDLE_MS,
            metadata_max_age_ms=30_000,
        )

    def _take(self, consumer: AIOKafkaConsumer, numbers: Collection[int]) -> None:
        topic = self._options.topic
        if self._options.group is not None:
            heed_group_errors(consumer._coordinator)  # noqa: SLF001  the kit's remedy asks for it
            consumer.subscribe([topic], listener=_Listener(self, consumer))
            return
        self._assigned = {TopicPartition(topic, number) for number in numbers}
        consumer.assign(sorted(self._assigned))

    async def _read(self) -> Records:
        consumer = self._consumer
        if consumer is None:
            raise TransientError("Kafka is away")
        while True:
            await self._place(consumer)
            await self.commit_if_due()
            turn = self._turn
            try:
                fetched = await consumer.getmany(
                    timeout_ms=POLL_MS, max_records=self._options.max_records
                )
            except NoOffsetForPartitionError:
                continue  # aiokafka has not heard yet where we let the partition begin
            except OffsetOutOfRangeError as exc:
                await self._begin_again(consumer, exc.args[0])
                continue
            records = [(tp, one) for tp in fetched if tp in self._placed for one in fetched[tp]]
            if records and turn == self._turn:
                return Records(turn, records)

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Seek the partitions that are new to us."""
        for tp in sorted(self._assigned - self._placed):
            turn = self._turn
            offset, known = await self._offset(consumer, tp)
            if turn != self._turn:
                return
            consumer.seek(tp, offset)
            self._next[tp] = offset
            self._placed.add(tp)
            if known:
                self._committed[tp] = offset
            else:
                # So that a restart does not begin later, and skip what came in between.
                self._commit_at = 0.0

    async def _offset(self, consumer: AIOKafkaConsumer, tp: TopicPartition) -> tuple[int, bool]:
        """Return where *tp* goes on, and whether the group has committed that."""
        if self._options.positions is not None:
            known = await self._options.positions([tp.partition])
            if tp.partition in known:
                return known[tp.partition], False
        elif self._options.group is not None:
            committed = await consumer.committed(tp)
            if committed is not None:
                return int(committed), True
        elif tp in self._next:
            return self._next[tp], False
        return await first_offset(consumer, tp, self._options.start), False

    async def _begin_again(
        self, consumer: AIOKafkaConsumer, lost: Mapping[TopicPartition, int]
    ) -> None:
        """Go on at the beginning of partitions that do not hold the offset that is next."""
        firsts = await consumer.beginning_offsets(list(lost))
        for tp, offset in lost.items():
            first = int(firsts[tp])
            where = {"topic": tp.topic, "partition": tp.partition, "offset": offset, "first": first}
            if offset < first:
                log.error("records are gone from Kafka that were not read", extra=where)
            else:
                log.error(
                    "the partition ends before the next offset: reading all of it", extra=where
                )
            if tp in self._placed:
                consumer.seek(tp, first)
                self._next[tp] = first

    async def _commit(self) -> None:
        """Commit what was handled; what fails is tried again with the next commit."""
        self._commit_at = self._clock.monotonic() + COMMIT_S
        if self._options.group is None or self._consumer is None:
            return
        async with self._committing:
            due = {
                tp: offset
                for tp, offset in self._next.items()
                if tp in self._placed and self._committed.get(tp) != offset
            }
            if not due:
                return
            try:
                async with asyncio.timeout(COMMIT_LIMIT_S):
                    await self._consumer.commit(due)
            except CommitFailedError:
                log.warning("the group has gone on without us: its partitions are shared anew")
            except (KafkaError, TimeoutError) as exc:
                log.warning("a commit failed, trying again", extra={"error": repr(exc)})
            else:
                self._committed |= due

    # -- what the group's coordinator tells: a client that was left may do so until it has ended

    async def revoke(self, consumer: AIOKafkaConsumer) -> None:
        """Commit, because others may get the partitions: what was not handled is read again."""
        if consumer is self._consumer:
            await self._commit()
        if consumer is self._consumer:
            self._end_turn()
            self._assigned = set()

    def assign(self, consumer: AIOKafkaConsumer, tps: Collection[TopicPartition]) -> None:
        """Take *tps*; they are placed by the next read."""
        if consumer is self._consumer:
            self._end_turn()
            self._assigned = set(tps)

    def _end_turn(self) -> None:
        self._turn += 1
        self._placed = set()
        if self._options.group is not None:
            self._next = {}
            self._committed = {}


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped here
    """Passes on what the coordinator tells."""

    def __init__(self, reader: Reader, consumer: AIOKafkaConsumer) -> None:
        self._reader, self._consumer = reader, consumer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Commit before others get them."""
        if revoked:
            await self._reader.revoke(self._consumer)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Take the share of this generation."""
        self._reader.assign(self._consumer, assigned)
