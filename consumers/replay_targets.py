"""Where a replay goes: a file of JSON lines, or the topic of the same name under another prefix."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from consumers.snapshot import connected
from pipeline.core.batch import Output, OutRecord, TopicPartition
from pipeline.core.errors import ConfigError, MailstreamError
from pipeline.kit.clients import partitions_of
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import mapped_errors
from pipeline.kit.retry import Backoff, retry
from pipeline.kit.transactions import Committed, TransactionalProducer, TransactionOptions


class Line(msgspec.Struct):
    """One record in a file."""

    topic: str
    partition: int
    offset: int
    time: int
    """When it was written, milliseconds since the epoch."""
    key: str | None
    headers: dict[str, str]
    value: msgspec.Raw
    """The value, if that is JSON on one line; else ``{"hex": "..."}``."""


class _Where(msgspec.Struct):
    topic: str
    partition: int
    offset: int


_FIRST_GROUP: Final = Backoff(base_s=0.1, cap_s=1.0, deadline_s=30.0)
"""A cluster that has had no groups yet makes the topic of their offsets when one is asked for."""
_encode: Final = msgspec.json.Encoder().encode
_decode_where: Final = msgspec.json.Decoder(_Where).decode


def line_of(record: Any) -> bytes:
    """Return the line of *record*, its end included."""
    headers = {name: value.decode("utf-8", "backslashreplace") for name, value in record.headers}
    key = None if record.key is None else record.key.decode("utf-8", "backslashreplace")
    place = record.topic, record.partition, record.offset, record.timestamp
    return _encode(Line(*place, key, headers, _json_value(record.value or b""))) + b"\n"


def _json_value(value: bytes) -> msgspec.Raw:
    if b"\n" not in value and b"\r" not in value:
        try:
            msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return msgspec.Raw(value)
    return msgspec.Raw(_encode({"hex": value.hex()}))


def _private(path: str, flags: int) -> int:
    """Open for this user alone: events name people."""
    return os.open(path, flags, 0o600)


class FileTarget:
    """A file that is made, or gone on with if a replay of the same topic was writing it."""

    def __init__(self, path: Path, topic: str) -> None:
        """Write records of *topic* to *path*."""
        self._path, self._topic = path, topic
        self._file: BinaryIO | None = None

    async def open(self, partitions: int) -> Mapping[int, int]:  # noqa: ARG002  a file takes any
        """Find out where an earlier run ended, and cut off a line that it did not finish.

        Raises:
            MailstreamError: The file holds something else.
            OSError: It cannot be written.
        """
        file = self._file = open(self._path, "a+b", opener=_private)  # noqa: ASYNC230, SIM115  Path takes no opener; a local file
        file.seek(0)
        whole = 0
        positions: dict[int, int] = {}
        for line in file:
            if not line.endswith(b"\n"):
                break
            where = self._where(line)
            positions[where.partition] = where.offset + 1
            whole += len(line)
        file.truncate(whole)
        return positions

    def _where(self, line: bytes) -> _Where:
        try:
            where = _decode_where(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            where = None
        if where is None or where.topic != self._topic:
            raise MailstreamError(f"{self._path}: this is no replay of {self._topic}")
        return where

    async def write(self, records: Sequence[Any], positions: Mapping[int, int]) -> None:  # noqa: ARG002  the lines say
        """Append a line per record."""
        if self._file is not None:
            self._file.write(b"".join(map(line_of, records)))
            self._file.flush()

    async def close(self) -> None:
        """Make sure that the disk has it."""
        file, self._file = self._file, None
        if file is not None:
            os.fsync(file.fileno())
            file.close()


def _misfit(target: str, found: int, source: str, expected: int) -> str:
    return (
        f"{target} has {found} partitions, expected {expected} as {source}: make it with "
        "`mailstream topics create` and a configuration with that topics.prefix"
    )


class TopicTarget:
    """A topic with as many partitions; records and positions are committed together."""

    def __init__(
        self, client: Mapping[str, Any], source: str, target: str, group: str, clock: Clock
    ) -> None:
        """Write to *target* what *source* holds; Kafka keeps the positions for *group*."""
        self._client = client
        self._source, self._target, self._group = source, target, group
        self._clock = clock
        options = TransactionOptions(client=client)
        self._producer = TransactionalProducer(group, [target], options, group)

    async def open(self, partitions: int) -> Mapping[int, int]:
        """Fence an earlier run, and return where it ended.

        Raises:
            ConfigError: The topic is the one that is read, not there, or has another number of
                partitions.
            TransientError: Kafka does not answer.
        """
        if self._target == self._source:
            raise ConfigError([f"{self._source}: a topic is no target of itself"])
        async with connected(self._client) as consumer:
            found = len(await partitions_of(consumer, self._target))
        if found != partitions:
            raise ConfigError([_misfit(self._target, found, self._source, partitions)])
        with mapped_errors():
            await self._producer.fence()
        return await retry(self._held, clock=self._clock, backoff=_FIRST_GROUP, level=logging.DEBUG)

    async def _held(self) -> Mapping[int, int]:
        with mapped_errors():
            admin = AIOKafkaAdminClient(**self._client)
            try:
                await admin.start()
                held = await admin.list_consumer_group_offsets(self._group)
            finally:
                await admin.close()
        return {
            tp.partition: int(one.offset) for tp, one in held.items() if tp.topic == self._source
        }

    async def write(self, records: Sequence[Any], positions: Mapping[int, int]) -> None:
        """Write *records* byte for byte to the partitions they have, and *positions*, or nothing."""
        by_partition: dict[int, list[OutRecord]] = defaultdict(list)
        for one in records:
            by_partition[one.partition].append(OutRecord(one.value or b"", one.key, one.headers))
        outputs = [Output(self._target, *found) for found in by_partition.items()]
        offsets = {
            TopicPartition(self._source, partition): Committed(offset, "")
            for partition, offset in positions.items()
        }
        with mapped_errors():
            prepared = self._producer.prepare(outputs, self._clock.now_ms())
            await self._producer.commit(prepared, offsets)

    async def close(self) -> None:
        """Abandon what was not committed."""
        await self._producer.close()
