"""Transactions under a stable id: records and offsets, all or nothing.

Whoever writes exactly once, a partition of phase 1 or a poller, has a producer of its own with a
*stable* transactional id.  aiokafka commits offsets without the member's generation, so this id is
all that fences a zombie: it must be taken (InitProducerId) before the committed offset, or the
checkpoint, is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.conn import CloseReason
from aiokafka.errors import ConsumerStoppedError, IllegalOperation, KafkaError
from aiokafka.structs import OffsetAndMetadata

from pipeline.core.batch import Output, OutRecord
from pipeline.core.batch import TopicPartition as SourcePartition
from pipeline.core.errors import MailstreamError
from pipeline.core.topics import MAX_MESSAGE_BYTES
from pipeline.kit.closing import close_within
from pipeline.kit.lost_markers import markers_of

RETRY_MS: Final = 20
"""After a commit the broker refuses the next transaction for some milliseconds."""
RECORD_OVERHEAD: Final = 128
CLOSE_S: Final = 3.0
NO_HEADERS: Final[list[tuple[str, bytes]]] = []

CLIENT_FAILURES: Final = (
    KafkaError,
    IllegalOperation,
    ConsumerStoppedError,
    # aiokafka guards the state machine of its transactions and seeks by assertions.
    AssertionError,
    asyncio.InvalidStateError,
    OSError,
    TimeoutError,
)
"""After one of these the outcome of a call is unknown; the log tells, once it is read again."""


class OutputTooLargeError(MailstreamError):
    """One output record exceeds what a topic takes; fewer input records may give smaller ones."""


class Committed(NamedTuple):
    """A committed offset with its metadata."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionOptions:
    """How transactions talk to Kafka."""

    client: Mapping[str, Any]
    """``bootstrap_servers``, security: arguments of every aiokafka client."""
    codec: str | None = "zstd"
    """As aiokafka spells it; None: nothing is compressed."""
    timeout_ms: int = 10_000
    """A transaction takes no longer."""
    request_timeout_ms: int = 12_000
    open_limit_s: float = 30.0
    """One attempt of taking the id takes no longer."""
    batch_bytes: int = 4 << 20
    """Uncompressed size at which outputs are split into record batches."""


class PreparedBatch(NamedTuple):
    """One record batch, ready to be sent."""

    topic: str
    partition: int
    batch: Any


class TransactionalProducer:
    """The producer of one transactional id; made anew by every fencing."""

    def __init__(
        self,
        transactional_id: str,
        topics: Sequence[str],
        options: TransactionOptions,
        group_id: str | None = None,
    ) -> None:
        """Name the id, the topics that are written, and the group whose offsets are committed."""
        self._transactional_id = transactional_id
        self._group_id = group_id
        self._topics = topics
        self._options = options
        self._producer: Any = None
        self.lost_connection = False
        """Whether a connection broke since the fencing: the broker may have forgotten a marker."""

    async def fence(self) -> int:
        """Take the transactional id: ends a predecessor's transaction and refuses its next one.

        When this returns, all that the id ever wrote is committed or aborted.

        Returns:
            In how many partitions Kafka had lost the end of a transaction.

        Raises:
            TimeoutError: Kafka did not answer in time; also aiokafka's errors.
        """
        await self.close()
        options = self._options
        producer = AIOKafkaProducer(
            **options.client,
            client_id=self._transactional_id,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=options.timeout_ms,
            compression_type=options.codec,
            max_batch_size=options.batch_bytes,
            max_request_size=2 * MAX_MESSAGE_BYTES,
            request_timeout_ms=options.request_timeout_ms,
            retry_backoff_ms=RETRY_MS,
        )
        self._note_lost_connections(producer.client)
        try:
            async with (
                asyncio.timeout(options.open_limit_s),
                markers_of(
                    self._transactional_id, options.client, options.request_timeout_ms
                ) as markers,
            ):
                # Before the id is taken, because after it nobody knows any more.
                last = await markers.last_transaction()
                await producer.start()
                lost = 0
                if last is not None:
                    lost = await markers.finish(last, self._topics, self._group_id)
        except BaseException:
            await _abandon(producer)
            raise
        self._producer = producer
        return lost

    def _note_lost_connections(self, client: Any) -> None:
        on_closed = client._on_connection_closed
        self.lost_connection = False

        def noted(connection: Any, reason: Any) -> None:
            if reason in (CloseReason.CONNECTION_BROKEN, CloseReason.CONNECTION_TIMEOUT):
                self.lost_connection = True
            on_closed(connection, reason)

        client._on_connection_closed = noted

    def prepare(self, outputs: Sequence[Output], now_ms: int) -> list[PreparedBatch]:
        """Build the record batches of *outputs*, split at the batch size.

        Raises:
            OutputTooLargeError: A record is larger than any topic takes.
        """
        return [
            PreparedBatch(output.topic, output.partition, batch)
            for output in outputs
            for batch in self._build(output.records, now_ms)
        ]

    def _build(self, records: Sequence[OutRecord], now_ms: int) -> list[Any]:
        batches: list[Any] = []
        append, count = _full, 0
        for value, key, headers in records:
            # A list: aiokafka's builder is compiled and takes nothing else.
            listed = list(headers) if headers else NO_HEADERS
            if append(count, now_ms, key, value, listed) is None:
                if len(value) > MAX_MESSAGE_BYTES - RECORD_OVERHEAD:
                    raise OutputTooLargeError(f"an output record of {len(value)} bytes")
                _close(batches, count)
                batches.append(self._producer.create_batch())
                append, count = batches[-1]._builder.append, 0
                # The first record of a batch is taken whatever its size.
                append(0, now_ms, key, value, listed)
            count += 1
        _close(batches, count)
        return batches

    async def commit(
        self,
        prepared: Sequence[PreparedBatch],
        offsets: Mapping[SourcePartition, Committed] | None = None,
    ) -> None:
        """Write *prepared* and the group's *offsets* in one transaction.

        Raises:
            TimeoutError: It took longer than a transaction may; also aiokafka's errors.  The
                outcome is unknown then, and this producer of no more use.
        """
        producer = self._producer
        futures: list[asyncio.Future[Any]] = []
        async with asyncio.timeout(self._options.timeout_ms / 1000):
            try:
                await producer.begin_transaction()
                for topic, partition, batch in prepared:
                    futures.append(await producer.send_batch(batch, topic, partition=partition))
                # A commit succeeds even if one of its batches was refused: look at each.
                await asyncio.gather(*futures)
                if offsets:
                    await producer.send_offsets_to_transaction(
                        {
                            TopicPartition(*source): OffsetAndMetadata(*committed)
                            for source, committed in offsets.items()
                        },
                        self._group_id,
                    )
                await producer.commit_transaction()
            finally:
                for future in futures:
                    future.cancel()
                _retrieve(futures)

    async def close(self) -> None:
        """Close without waiting for what was not delivered: an open transaction is abandoned."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _abandon(producer)


def _full(*_: Any) -> None:
    """Stand for a batch that takes no more: there is none yet."""


def _close(batches: list[Any], count: int) -> None:
    """Finish the last batch, which has *count* records."""
    if batches:
        batches[-1]._relative_offset = count
        batches[-1].close()


async def _abandon(producer: Any) -> None:
    """End the producer's tasks and connections, whatever state they are in.

    Its own ``stop`` would wait for deliveries and coordinators that may never come back.
    """
    await close_within(_abandoned(producer), 3 * CLOSE_S)


async def _abandoned(producer: Any) -> None:
    producer._closed = True
    tasks = _tasks_of(producer._sender)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_S)
    _retrieve(tasks)
    queued = chain.from_iterable(producer._message_accumulator._batches.values())
    _retrieve(batch._drain_waiter for batch in queued)
    _retrieve([producer._txn_manager._transaction_waiter])
    await close_within(producer.client.close(), CLOSE_S)


def _retrieve(futures: Iterable[asyncio.Future[Any] | None]) -> None:
    """Look at the errors of futures that nobody waits for, or asyncio would report each."""
    for future in futures:
        if future is not None and future.done() and not future.cancelled():
            future.exception()


def _tasks_of(sender: Any) -> list[asyncio.Task[Any]]:
    """Return the tasks that run methods of *sender*: aiokafka keeps no list of them."""
    found = []
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and frame.f_locals.get("self") is sender:
            found.append(task)
    return found
