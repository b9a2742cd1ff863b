"""Dead letters: what ``mail.dead`` holds, and another try for the records behind it.

A dead letter's value is the record's with the local parts of addresses replaced, without the headers
that phase 1 needs.  So it cannot be retried itself: what is written again is the original, as
long as its raw topic holds it.  Phase 1 remembers no id of a record that it could not use, so it
takes the copy; a second copy within ``pipeline.dedupe_horizon`` is a duplicate to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import xxhash
from aiokafka import AIOKafkaProducer, TopicPartition

from consumers.place import Place
from consumers.snapshot import all_records, connected, records_at
from pipeline.core.batch import header
from pipeline.core.errors import Reason
from pipeline.core.topics import MAX_MESSAGE_BYTES, RAW_PREFIX, TOPICS
from pipeline.kit.closing import close_within
from pipeline.kit.kafka import client_options, mapped_errors
from pipeline.kit.settings import Settings

OTHER: Final = "other"
REASONS: Final = (*(reason.value for reason in Reason), OTHER)
CHUNK: Final = 5000
"""Dead letters whose originals are looked for in one go through the raw topics."""
IN_FLIGHT: Final = 200
IN_FLIGHT_BYTES: Final = 8 << 20
"""Most records, and about how many bytes of them, that are written at once."""
CLOSE_S: Final = 5.0
_REDACTED: Final = b"***"
_SURELY_WHOLE: Final = 1 << 20
"""Bytes; longer values may have been cut."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of ``mail.dead``."""

    place: Place
    written_ms: int
    error: str
    """The reason and a sentence."""
    source: str
    original: Place | None
    """Where the record was; None if the headers do not say."""
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def reason(self) -> str:
        """Return the word with which the error begins, one of :data:`REASONS`."""
        word = self.error.partition(":")[0]
        return word if word in REASONS else OTHER


@dataclass(slots=True)
class Summary:
    """The dead letters of one source and reason."""

    count: int = 0
    newest_ms: int = 0
    newest: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which dead letters; what is empty or None selects all."""

    sources: Collection[str] = ()
    reasons: Collection[str] = ()
    places: Collection[tuple[int, int]] = ()
    """Partitions and offsets on ``mail.dead``."""

    def takes(self, letter: DeadLetter) -> bool:
        """Tell whether *letter* is one of them."""
        return (
            (not self.sources or letter.source in self.sources)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.places or letter.place[1:] in self.places)
        )


@dataclass(slots=True)
class Retried:
    """What became of the selected dead letters."""

    selected: int = 0
    written: int = 0
    """Originals written to their raw topics again, or that would be."""
    repeated: int = 0
    """The same record as another of them, as after a retry that failed."""
    gone: int = 0
    """Kafka no longer holds the original: what ``mail.dead`` holds of it cannot be used."""
    foreign: int = 0
    """The headers do not name a place in a raw topic."""


class _Wanted(NamedTuple):
    """What is needed of a dead letter to find its original, and to know it again."""

    key: bytes | None
    digest: int | None
    """Of the value, if that is the original's."""


async def read(settings: Settings, bootstrap: str) -> AsyncGenerator[DeadLetter, None]:
    """Yield what ``mail.dead`` holds now, by partition and offset of each fetch.

    Raises:
        TransientError: Kafka does not answer.
        ConfigError: Kafka refuses us.
    """
    client = client_options(settings.kafka, bootstrap)
    async with (
        connected(client) as consumer,
        aclosing(all_records(consumer, settings.topics.names.of("dead"))) as records,
    ):
        async for record in records:
            yield letter_of(record)


async def summaries(
    settings: Settings, bootstrap: str, selection: Selection
) -> dict[tuple[str, str], Summary]:
    """Return the selected dead letters by source and reason."""
    found: dict[tuple[str, str], Summary] = defaultdict(Summary)
    async with aclosing(read(settings, bootstrap)) as letters:
        async for letter in letters:
            if selection.takes(letter):
                summary = found[letter.source, letter.reason]
                summary.count += 1
                if letter.written_ms >= summary.newest_ms:
                    summary.newest_ms, summary.newest = letter.written_ms, letter.place
    return dict(found)


async def find(
    settings: Settings, bootstrap: str, partition: int, offset: int
) -> tuple[DeadLetter, bool] | None:
    """Return the dead letter at a place, and whether Kafka still holds its original."""
    tp = TopicPartition(settings.topics.names.of("dead"), partition)
    async with connected(client_options(settings.kafka, bootstrap)) as consumer:
        found = await _one(records_at(consumer, tp, [offset]))
        if found is None:
            return None
        letter = letter_of(found)
        place = raw_place(settings, letter)
        if place is None:
            return letter, False
        source = TopicPartition(place.topic, place.partition)
        original = await _one(records_at(consumer, source, [place.offset]))
        return letter, _is_original(original, _wanted(letter))


async def _one(records: AsyncGenerator[tuple[int, Any], None]) -> Any:
    async with aclosing(records):
        async for _offset, record in records:
            return record
    return None


def letter_of(record: Any) -> DeadLetter:
    """Return the dead letter of a record of ``mail.dead``, whatever its headers are."""
    headers = tuple(record.headers)
    return DeadLetter(
        Place(record.topic, record.partition, record.offset),
        record.timestamp,
        _text(headers, "error"),
        _text(headers, "source"),
        _place(headers),
        record.key,
        record.value or b"",
        headers,
    )


def _text(headers: Sequence[tuple[str, bytes]], name: str) -> str:
    return (header(headers, name) or b"").decode("utf-8", "replace")


def _place(headers: Sequence[tuple[str, bytes]]) -> Place | None:
    topic, partition, offset = (_text(headers, name) for name in ("topic", "partition", "offset"))
    numbers = all(one.isascii() and one.isdigit() for one in (partition, offset))
    return Place(topic, int(partition), int(offset)) if topic and numbers else None


def raw_place(settings: Settings, letter: DeadLetter) -> Place | None:
    """Return the place of the original of *letter*, if that is one in a raw topic of ours."""
    names = settings.topics.names
    raw = {names.of(topic.name) for topic in TOPICS if topic.name.startswith(RAW_PREFIX)}
    return letter.original if letter.original and letter.original.topic in raw else None


def _wanted(letter: DeadLetter) -> _Wanted:
    value = letter.value
    whole = _REDACTED not in value and len(value) < _SURELY_WHOLE
    return _Wanted(letter.key, xxhash.xxh3_64_intdigest(value) if whole else None)


def _is_original(record: Any, wanted: _Wanted) -> bool:
    """Tell whether *record* is what was wanted: a topic that was made anew holds another there."""
    return (
        record is not None
        and record.key == wanted.key
        and wanted.digest in (None, xxhash.xxh3_64_intdigest(record.value or b""))
    )


async def retry(
    settings: Settings,
    bootstrap: str,
    selection: Selection,
    *,
    act: bool,
    progress: Callable[[Retried], None] = lambda _retried: None,
) -> Retried:
    """Write the originals of the selected dead letters to their raw topics again.

    Memory is bounded by the ids of what is written, and :data:`CHUNK` dead letters.

    Args:
        settings: For topics and the connection.
        bootstrap: Where Kafka is.
        selection: Which; those that are written while this runs are not among them.
        act: Whether to write; else this only counts.
        progress: Is told how far it is.

    Raises:
        TransientError: Kafka does not answer.  What was written so far may be written again.
        ConfigError: Kafka refuses us.
    """
    client = client_options(settings.kafka, bootstrap)
    retried = Retried()
    seen: set[int] = set()
    async with (
        connected(client) as originals,
        _writing(client, act=act) as write,
        aclosing(read(settings, bootstrap)) as letters,
    ):
        wanted: dict[Place, _Wanted] = {}
        async for letter in letters:
            if not selection.takes(letter):
                continue
            retried.selected += 1
            place = raw_place(settings, letter)
            if place is None:
                retried.foreign += 1
            elif place in wanted:
                retried.repeated += 1
            else:
                wanted[place] = _wanted(letter)
            if len(wanted) == CHUNK:
                await _retry(originals, wanted, retried, seen, write)
                progress(retried)
                wanted = {}
        await _retry(originals, wanted, retried, seen, write)
        progress(retried)
    return retried


_Write = Callable[[Sequence[Any]], Any]


async def _retry(
    consumer: Any,
    wanted: Mapping[Place, _Wanted],
    retried: Retried,
    seen: set[int],
    write: _Write,
) -> None:
    by_partition: dict[TopicPartition, list[int]] = defaultdict(list)
    for place in sorted(wanted):
        by_partition[TopicPartition(place.topic, place.partition)].append(place.offset)
    batch: list[Any] = []
    size = 0
    for tp, offsets in by_partition.items():
        async with aclosing(records_at(consumer, tp, offsets)) as found:
            async for offset, record in found:
                if not _is_original(record, wanted[Place(tp.topic, tp.partition, offset)]):
                    retried.gone += 1
                    continue
                identity = _identity(record)
                if identity in seen:
                    retried.repeated += 1
                    continue
                seen.add(identity)
                batch.append(record)
                size += len(record.value or b"")
                retried.written += 1
                if len(batch) == IN_FLIGHT or size > IN_FLIGHT_BYTES:
                    await write(batch)
                    batch, size = [], 0
    await write(batch)


def _identity(record: Any) -> int:
    """Return what a record and its copies share.

    Not the id alone: of several unusable records of one event, any may be the one that phase 1 takes.
    """
    headers = repr(record.headers).encode()
    parts = (record.topic.encode(), record.key or b"", headers, record.value or b"")
    return xxhash.xxh3_64_intdigest(b"%b|%b|%b|%b" % parts)


@asynccontextmanager
async def _writing(client: Mapping[str, Any], *, act: bool) -> AsyncIterator[_Write]:
    """Yield what writes records where they were read, byte for byte, and waits for Kafka."""
    if not act:
        yield _write_nothing
        return
    producer = AIOKafkaProducer(
        **client,
        enable_idempotence=True,
        compression_type="zstd",
        max_request_size=2 * MAX_MESSAGE_BYTES,
    )

    async def write(records: Sequence[Any]) -> None:
        with mapped_errors():
            sent = [
                await producer.send(
                    record.topic,
                    record.value,
                    key=record.key,
                    partition=record.partition,
                    headers=list(record.headers),
                )
                for record in records
            ]
            for future in sent:
                await future

    with mapped_errors():
        try:
            await producer.start()
            yield write
        finally:
            await close_within(producer.stop(), CLOSE_S)


async def _write_nothing(records: Sequence[Any]) -> None:
    """Stand for writing in a dry run."""
