"""Transactions whose end Kafka decided and then forgot to write.

A coordinator that finds a partition without a leader takes it for deleted, and ends the
transaction without a marker there (Kafka 4.3.1: ``KRaftMetadataCache.getPartitionLeaderEndpoint`` is
empty, ``TransactionMarkerChannelManager`` goes on).  Every partition is without a leader for a
moment after the only broker, or the last one of a partition, was killed.  What the transaction wrote
stays open then, the next transaction of that producer id ends it too, and *its* outcome counts:
aborted outputs would appear beside those of the second attempt.

So whoever takes a transactional id asks the coordinator how the last transaction ended, and
writes the markers that are missing before the id is used again.  This is what
``kafka-transactions.sh`` (KIP-664) is for, except that the outcome is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    TopicAuthorizationFailedError,
    for_code,
)

from pipeline.kit.admin_requests import (
    DescribeProducersRequest,
    DescribeTransactionsRequest,
    WriteTxnMarkersRequest,
)
from pipeline.kit.closing import close_within

log = logging.getLogger(__name__)
_T = TypeVar("_T")

OFFSETS_TOPIC: Final = "__consumer_offsets"
_COMMITTED: Final = frozenset({"PrepareCommit", "CompleteCommit"})
_ID_NOT_FOUND: Final = 105
"""``TRANSACTIONAL_ID_NOT_FOUND``; aiokafka has no class for it."""
_RETRY_S: Final = 0.05
_CLOSE_S: Final = 3.0
_INT_MASK: Final = 0xFFFF_FFFF
_INT_MAX: Final = 0x7FFF_FFFF


class Ended(NamedTuple):
    """How the last transaction of an id ended, or will when the id is taken."""

    producer_id: int
    committed: bool


class Open(NamedTuple):
    """A transaction that is open in one partition."""

    partition: TopicPartition
    producer_epoch: int
    coordinator_epoch: int


class Markers:
    """Looks for missing markers of one transactional id, and writes them."""

    def __init__(self, client: AIOKafkaClient, transactional_id: str) -> None:
        """Ask through *client*, which is connected."""
        self._client = client
        self._transactional_id = transactional_id

    async def last_transaction(self) -> Ended | None:
        """Return how the last transaction ended; None if there was none.

        One that is still open counts as aborted: taking the id aborts it.

        Raises:
            KafkaError: The coordinator refuses to say.
        """
        return await self._until_answered(self._last_transaction)

    async def finish(self, ended: Ended, topics: Sequence[str], group_id: str | None) -> int:
        """Write the markers that the transaction lacks in *topics* and the offsets of *group_id*.

        Call it when the id is taken, so that nobody writes under it.

        Returns:
            In how many partitions one was missing.

        Raises:
            KafkaError: A partition's leader refuses.
        """

        async def write_all() -> list[Open]:
            partitions = await self._partitions(topics, group_id)
            lacking = await self._open_in(ended.producer_id, partitions)
            for found in lacking:
                await self._write(ended, found)
            return lacking

        lacking = await self._until_answered(write_all)
        if lacking:
            log.warning(
                "Kafka had lost the end of a transaction; it is written",
                extra={
                    "transactional_id": self._transactional_id,
                    "committed": ended.committed,
                    "partitions": ", ".join(f"{t}-{n}" for (t, n), _, _ in lacking),
                },
            )
        return len(lacking)

    async def _until_answered(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask again while a broker is being elected, or loads; the caller limits the time."""
        while True:
            try:
                return await ask()
            except KafkaError as exc:
                if not exc.retriable:
                    raise
            await asyncio.sleep(_RETRY_S)
            await self._client.force_metadata_update()

    async def _last_transaction(self) -> Ended | None:
        node = await self._client.coordinator_lookup(
            CoordinationType.TRANSACTION, self._transactional_id
        )
        answer: Any = await self._client.send(
            node, DescribeTransactionsRequest(self._transactional_id)
        )
        code, _, state, _, _, producer_id, *_ = answer.states[0]
        if code == _ID_NOT_FOUND:
            return None
        _raise(code)
        return Ended(producer_id, state in _COMMITTED)

    async def _partitions(
        self, topics: Sequence[str], group_id: str | None
    ) -> list[TopicPartition]:
        client = self._client
        await client.set_topics([*topics, OFFSETS_TOPIC])
        found = [
            TopicPartition(topic, number)
            for topic in topics
            for number in client.cluster.partitions_for_topic(topic) or ()
        ]
        offsets = client.cluster.partitions_for_topic(OFFSETS_TOPIC)
        if offsets and group_id is not None:
            found.append(TopicPartition(OFFSETS_TOPIC, offsets_partition(group_id, len(offsets))))
        return found

    async def _open_in(self, producer_id: int, partitions: Sequence[TopicPartition]) -> list[Open]:
        """Return where *producer_id* has a transaction open."""
        led: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for partition in partitions:
            led[self._leader(partition)][partition.topic].append(partition.partition)
        found = []
        for node, by_topic in led.items():
            answer: Any = await self._client.send(
                node, DescribeProducersRequest(list(by_topic.items()))
            )
            for topic, described, _ in answer.topics:
                for number, code, _, producers, _ in described:
                    if _may_not_look(code, topic):
                        continue
                    found += [
                        Open(TopicPartition(topic, number), epoch, max(0, coordinator_epoch))
                        for found_id, epoch, _, _, coordinator_epoch, start, _ in producers
                        if found_id == producer_id and start >= 0
                    ]
        return found

    async def _write(self, ended: Ended, found: Open) -> None:
        topic, number = found.partition
        request = WriteTxnMarkersRequest(
            ended.producer_id,
            found.producer_epoch,
            found.coordinator_epoch,
            topic,
            number,
            committed=ended.committed,
        )
        answer: Any = await self._client.send(self._leader(found.partition), request)
        for _, topics, _ in answer.markers:
            for _, written, _ in topics:
                for _, code, _ in written:
                    _raise(code)

    def _leader(self, partition: TopicPartition) -> int:
        leader: int | None = self._client.cluster.leader_for_partition(partition)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"{partition.topic}-{partition.partition}")
        return leader


@asynccontextmanager
async def markers_of(
    transactional_id: str, options: Mapping[str, Any], request_timeout_ms: int
) -> AsyncIterator[Markers]:
    """Yield the markers of *transactional_id*, looked at through a connection of its own."""
    client = AIOKafkaClient(
        **options,
        client_id=transactional_id,
        request_timeout_ms=request_timeout_ms,
    )
    try:
        await client.bootstrap()
        yield Markers(client, transactional_id)
    finally:
        await close_within(client.close(), _CLOSE_S)


def offsets_partition(group_id: str, partitions: int) -> int:
    """Return the partition of ``__consumer_offsets`` that holds a group's offsets.

    The absolute value of Java's ``String.hashCode``, modulo *partitions*.
    """
    code = 0
    for char in group_id:  # ASCII, as topic names are
        code = (31 * code + ord(char)) & _INT_MASK
    if code > _INT_MAX:
        code = (_INT_MASK + 1 - code) & _INT_MAX  # Kafka takes 0 for the lowest number
    return code % partitions


def _may_not_look(code: int, topic: str) -> bool:
    """Tell whether we lack the right to see the producers of *topic*; raise any other error."""
    if for_code(code) is TopicAuthorizationFailedError:
        log.warning("without the right to read it, lost markers go unseen", extra={"topic": topic})
        return True
    _raise(code)
    return False


def _raise(code: int) -> None:
    error = for_code(code)
    if error is not NoError:
        raise error
