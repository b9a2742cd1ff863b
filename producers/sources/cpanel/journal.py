"""What one server's poller has written, on Kafka: rows and checkpoint in one transaction.

Whoever polls a server takes its transactional id first, so that no other process writes for it,
and then reads where it stands from the log: the checkpoint, and the ids of all rows that the server
may give again.  The same is done after every failure to write, whose outcome only the log knows.

Many servers are opened in one pass over the topics: at a start, and when Kafka comes back, all of
them want the same records.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.core.batch import Output, OutRecord, header
from pipeline.core.errors import MailstreamError, TransientError
from pipeline.core.event import partition_of
from pipeline.core.loose import whole
from pipeline.core.topics import TopicNames
from pipeline.kit.clock import Clock as Time
from pipeline.kit.closing import close_within
from pipeline.kit.kafka import core_error
from pipeline.kit.transactions import CLIENT_FAILURES, TransactionalProducer, TransactionOptions
from producers.sources.cpanel import checkpoint
from producers.sources.cpanel.checkpoint import Checkpoint
from producers.sources.cpanel.polling import Clock, oldest_asked_s
from producers.sources.cpanel.rows import SOURCE
from producers.sources.cpanel.seen import SeenIds

log = logging.getLogger(__name__)

TOPIC: Final = f"raw.{SOURCE}"
CHECKPOINTS: Final = "checkpoints"

MARGIN_S: Final = 3600
"""How far our clock may be behind a server's: rows are looked for from this much earlier on."""
_WAIT_MS: Final = 200
_SLICE: Final = 500
_REQUEST_TIMEOUT_MS: Final = 12_000
_CLOSE_S: Final = 3.0
_FENCES_AT_ONCE: Final = 8


class State(NamedTuple):
    """Where a server's poller stands."""

    checkpoint: Checkpoint | None
    seen: SeenIds


@dataclass(slots=True)
class _Wanted:
    """One server that waits to be opened."""

    journal: ServerJournal
    clock: Clock
    opened: asyncio.Future[State]


class Journals:
    """The journals of all servers of this process."""

    def __init__(
        self,
        names: TopicNames,
        partitions: int,
        options: TransactionOptions,
        time: Time,
        on_mended: Callable[[int], None],
    ) -> None:
        """Write to the topics of *names*, which have that many *partitions*.

        *on_mended* is told how many ends of transactions Kafka had lost.
        """
        self._names = names
        self._partitions = partitions
        self._options = options
        self._time = time
        self._turn = asyncio.Lock()
        self._waiting: list[_Wanted] = []
        self._journals: list[ServerJournal] = []
        self._on_mended = on_mended

    def journal(self, server: str) -> ServerJournal:
        """Return the journal of a server."""
        topics = self._names.of(TOPIC), self._names.of(CHECKPOINTS)
        producer = TransactionalProducer(
            f"{self._names.app_id}-{SOURCE}-{server}", topics, self._options
        )
        journal = ServerJournal(server, producer, self, self._partitions, topics)
        self._journals.append(journal)
        return journal

    async def open(self, journal: ServerJournal, clock: Clock) -> State:
        """Take the server's transactional id, and return where it stands.

        Raises:
            TransientError: Kafka is away.
            MailstreamError: Kafka refuses, or the log cannot be read.
        """
        wanted = _Wanted(journal, clock, asyncio.get_running_loop().create_future())
        self._waiting.append(wanted)
        try:
            async with self._turn:
                if not wanted.opened.done():
                    batch, self._waiting = self._waiting, []
                    await self._open_all([one for one in batch if not one.opened.done()])
            return await wanted.opened
        finally:
            if not wanted.opened.cancel() and not wanted.opened.cancelled():
                wanted.opened.exception()  # looked at, or asyncio would report it

    async def stop(self) -> None:
        """Close every producer."""
        await asyncio.gather(*(journal.close() for journal in self._journals))

    async def _open_all(self, batch: Sequence[_Wanted]) -> None:
        """Open all of *batch*; each gets its own outcome."""
        try:
            await self._read(await self._fence_all(batch))
        except (*CLIENT_FAILURES, MailstreamError) as exc:
            for one in batch:
                _refuse(one, exc)
        finally:  # nobody waits for ever, whatever happened
            for one in batch:
                _refuse(one, TransientError("the pass over the log was given up"))

    async def _fence_all(self, batch: Sequence[_Wanted]) -> list[_Wanted]:
        room = asyncio.Semaphore(_FENCES_AT_ONCE)

        async def fence(one: _Wanted) -> bool:
            async with room:
                try:
                    self._on_mended(await one.journal.fence())
                except CLIENT_FAILURES as exc:
                    _refuse(one, exc)
                    return False
            return True

        done = await asyncio.gather(*map(fence, batch))
        return [one for one, fenced in zip(batch, done, strict=True) if fenced]

    async def _read(self, wanted: Sequence[_Wanted]) -> None:
        """Tell each of *wanted*, which are fenced, where it stands."""
        values = await self._checkpoints([one.journal.key for one in wanted])
        stored: dict[str, Checkpoint] = {}
        servers: dict[str, Restored] = {}
        for one in wanted:
            server, value = one.journal.server, values.get(one.journal.key)
            if value is None:
                continue
            try:
                found = checkpoint.decode(value)
            except MailstreamError as exc:
                _refuse(one, exc)
                continue
            stored[server] = found
            servers[server] = Restored(one.clock, oldest_asked_s(one.clock, found), SeenIds())
        if servers:
            await self._restore(servers)
        for one in wanted:
            server = one.journal.server
            seen = servers[server].seen if server in servers else SeenIds()
            if not one.opened.done():
                one.opened.set_result(State(stored.get(server), seen))

    async def _checkpoints(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the last value under each of *keys*."""
        topic, wanted = self._names.of(CHECKPOINTS), frozenset(keys)
        places = {partition_of(key, self._partitions) for key in wanted}
        values: dict[bytes, bytes] = {}
        if not places:
            return values
        async with self._consumer() as consumer:
            consumer.assign([TopicPartition(topic, place) for place in places])
            await consumer.seek_to_beginning()
            async for record in _until_end(consumer):
                if record.key in wanted and record.value is not None:
                    values[record.key] = record.value
        return values

    async def _restore(self, servers: dict[str, Restored]) -> None:
        """Fill the seen ids of *servers* with the rows that may come again."""
        began = self._time.monotonic()
        since_ms = 1000 * (min(one.oldest_s for one in servers.values()) - MARGIN_S)
        topic = self._names.of(TOPIC)
        count = 0
        async with self._consumer() as consumer:
            parts = [TopicPartition(topic, place) for place in range(self._partitions)]
            consumer.assign(parts)
            await _seek(consumer, parts, max(since_ms, 0))
            async for record in _until_end(consumer):
                count += 1
                origin = (header(record.headers, "origin") or b"").decode("utf-8", "replace")
                restored = servers.get(origin)
                if restored is not None:
                    restored.take(record)
                if count % _SLICE == 0:
                    await asyncio.sleep(0)
        seconds = round(self._time.monotonic() - began, 3)
        log.info("the journal is read", extra={"servers": len(servers), "seconds": seconds})

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        consumer = AIOKafkaConsumer(
            **self._options.client,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await close_within(consumer.stop(), _CLOSE_S)


@dataclass(slots=True)
class Restored:
    """The seen ids of one server while they are read."""

    clock: Clock
    oldest_s: int
    seen: SeenIds

    def take(self, record: Any) -> None:
        """Remember the row of *record*, if it may come again."""
        event_id = header(record.headers, "id")
        if event_id is None or record.value is None:
            return
        try:
            at_s = whole(orjson.loads(record.value).get(self.clock.value))
        except (orjson.JSONDecodeError, AttributeError):
            return  # not written by a poller of ours
        at_s = record.timestamp // 1000 if at_s is None else at_s
        if at_s >= self.oldest_s:
            self.seen.add(event_id.decode("ascii", "replace"), at_s)


class ServerJournal:
    """The journal of one server."""

    def __init__(
        self,
        server: str,
        producer: TransactionalProducer,
        journals: Journals,
        partitions: int,
        topics: tuple[str, str],
    ) -> None:
        """Write rows and checkpoints to *topics* with *producer*."""
        self.server = server
        self._producer = producer
        self._journals = journals
        self._partitions = partitions
        self._topic, self._checkpoints = topics
        self.key = checkpoint.key_of(server)

    @property
    def is_doubtful(self) -> bool:
        """Tell whether a connection broke, so that the broker may have lost the end of a commit."""
        return self._producer.lost_connection

    async def open(self, clock: Clock) -> State:
        """Take over: see :meth:`Journals.open`."""
        try:
            return await self._journals.open(self, clock)
        except CLIENT_FAILURES as exc:
            raise core_error(exc) from exc

    async def fence(self) -> int:
        """Take the transactional id; return how many lost markers were written."""
        return await self._producer.fence()

    async def commit(self, records: Sequence[OutRecord], position: Checkpoint, now_ms: int) -> None:
        """Write *records* and *position*, all or nothing.

        Raises:
            TransientError: The outcome is unknown: open again.
            FencedError: Another process polls this server.
            MailstreamError: Kafka refuses.
        """
        parts: dict[int, list[OutRecord]] = defaultdict(list)
        for record in records:
            parts[partition_of(record.key or b"", self._partitions)].append(record)
        outputs = [Output(self._topic, place, part) for place, part in parts.items()]
        place = partition_of(self.key, self._partitions)
        outputs.append(Output(self._checkpoints, place, [OutRecord(position.encode(), self.key)]))
        try:
            await self._producer.commit(self._producer.prepare(outputs, now_ms))
        except CLIENT_FAILURES as exc:
            raise core_error(exc) from exc

    async def close(self) -> None:
        """Close the connections; an open transaction is abandoned."""
        await self._producer.close()


def _refuse(one: _Wanted, error: BaseException) -> None:
    if not one.opened.done():
        one.opened.set_exception(error)


async def _seek(consumer: Any, parts: Sequence[TopicPartition], since_ms: int) -> None:
    # The ends first: records written between the two questions must not be skipped.
    ends = await consumer.end_offsets(parts)
    found = await consumer.offsets_for_times(dict.fromkeys(parts, since_ms))
    for part in parts:
        at = found[part]
        consumer.seek(part, ends[part] if at is None else at.offset)


async def _until_end(consumer: Any) -> AsyncIterator[Any]:
    """Yield the committed records up to the high watermarks of the first answers.

    Not up to ``end_offsets``, which the open transaction of another server keeps low: what this
    server wrote may lie behind it.
    """
    left = set(consumer.assignment())
    goals: dict[TopicPartition, int] = {}
    while left:
        fetched = await consumer.getmany(timeout_ms=_WAIT_MS)
        for part in left - goals.keys():
            high = consumer.highwater(part)
            if high is not None:
                goals[part] = high
        for part, records in fetched.items():
            for record in records:
                if part not in goals or record.offset < goals[part]:
                    yield record
        for part in list(left & goals.keys()):
            if await consumer.position(part) >= goals[part]:
                left.discard(part)
                consumer.pause(part)
