"""Raw records in the form that ingest gives them, written straight to the raw topics."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer

from pipeline.core.event import partition_of
from tests.kit.traffic import Drawn

BATCH_BYTES = 1 << 20


class RawRecord(NamedTuple):
    """One record of a raw topic."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    at_ms: int


def raw_record(
    event: Mapping[str, Any], source: str, received_ms: int, origin: str = "default"
) -> RawRecord:
    """Return the record of one posted event that carries an id of its own."""
    key = event.get("queue_id") or event.get("message_id") or event["event_id"]
    value = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
    headers = _headers(event["event_id"].encode(), source, origin, received_ms)
    return RawRecord(key.encode(), value, headers, received_ms)


def probe_record(outcome: Mapping[str, Any], origin: str, received_ms: int) -> RawRecord:
    """Return the record of one outcome of a probe; its id is made of origin, token and outcome."""
    named = "\0".join((origin, outcome["token"], outcome["outcome"]))
    event_id = blake2b(named.encode(), digest_size=16).hexdigest().encode()
    value = json.dumps(outcome, separators=(",", ":"), ensure_ascii=False).encode()
    headers = _headers(event_id, "probe", origin, received_ms, feed=b"probe")
    return RawRecord(outcome["route"].encode(), value, headers, received_ms)


def drawn_record(drawn: Drawn, received_ms: int) -> RawRecord:
    """Return the record of one event of plain traffic."""
    headers = _headers(drawn.event_id.encode(), "zonemta", "default", received_ms)
    return RawRecord(drawn.message_id.encode(), drawn.body, headers, received_ms)


class RawWriter:
    """Writes records to one raw topic; what :meth:`write` returned from is in Kafka, once."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._topic, self._partitions = topic, partitions
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",  # as ingest does
            max_batch_size=BATCH_BYTES,
            max_request_size=2 * BATCH_BYTES,
            request_timeout_ms=60_000,
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._producer.stop()

    async def write(self, records: Iterable[RawRecord]) -> int:
        """Write *records*, in order within a partition; return how many."""
        parts: dict[int, list[RawRecord]] = defaultdict(list)
        count = 0
        for count, record in enumerate(records, 1):  # noqa: B007  the last number is the count
            parts[partition_of(record.key, self._partitions)].append(record)
        waits = [
            asyncio.create_task(self._write(partition, part)) for partition, part in parts.items()
        ]
        await asyncio.gather(*waits)
        return count

    async def _write(self, partition: int, records: Sequence[RawRecord]) -> None:
        futures = [
            await self._producer.send_batch(batch, self._topic, partition=partition)
            for batch in self._batches(records)
        ]
        await asyncio.gather(*futures)

    def _batches(self, records: Sequence[RawRecord]) -> Iterator[Any]:
        batch = self._producer.create_batch()
        for record in records:
            append = {
                "timestamp": record.at_ms,
                "key": record.key,
                "value": record.value,
                "headers": list(record.headers),
            }
            if batch.append(**append) is None:
                batch.close()
                yield batch
                batch = self._producer.create_batch()
                batch.append(**append)
        batch.close()
        yield batch


def _headers(
    event_id: bytes, source: str, origin: str, received_ms: int, feed: bytes = b"hook"
) -> tuple[tuple[str, bytes], ...]:
    return (
        ("id", event_id),
        ("source", source.encode()),
        ("feed", feed),
        ("origin", origin.encode()),
        ("received", b"%d" % received_ms),
    )
