"""Subscribe to ``mail.events``: enriched events as they are committed, with their places.

::

    async with aclosing(subscribe(settings, bootstrap, where=having(event_type="bounced"))) as events:
        async for event, place in events:
            ...

At least once with a group: an event counts as handled when the next one is asked for, and what was
handled is committed every second and when the subscription ends.  ``aclosing`` (of contextlib)
makes it end with the block, also by ``break``, an exception or cancellation; an event whose turn of the loop was
not finished then is delivered again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import msgspec

from consumers.filters import Predicate
from consumers.place import Place
from consumers.reader import Reader, ReaderOptions
from consumers.start import Now, Start
from pipeline.core.event import MailEvent
from pipeline.kit.clock import SystemClock
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import Settings

log = logging.getLogger(__name__)

_NOW: Final = Now()
_decode: Final = msgspec.json.Decoder(MailEvent).decode


class Placed(NamedTuple):
    """One event and its place."""

    event: MailEvent
    place: Place


async def subscribe(
    settings: Settings,
    bootstrap: str,
    *,
    where: Predicate | None = None,
    group: str | None = None,
    start: Start = _NOW,
) -> AsyncGenerator[Placed, None]:
    """Yield events one by one, those of a partition in its order; never ends by itself.

    Goes on by itself after Kafka was away.  Memory is bounded by about 1 MB per partition.

    Args:
        settings: For the security of the connection and the topics' prefix.
        bootstrap: Where Kafka is, ``host:port`` separated by commas.
        where: Which events; None: all.
        group: Members of a consumer group share the partitions, and go on where the group stood.
            None: all partitions, and nothing is remembered.
        start: Where to begin what the group, if any, has not read yet.

    Raises:
        TransientError: Kafka does not answer at the start.
        ConfigError: There are no topics, or Kafka refuses us.
    """
    async with _reading(settings, bootstrap, group, start) as reader:
        while True:
            records = await reader.read()
            for tp, record in records.records:
                placed = _placed(record)
                if placed is not None and (where is None or where(placed.event)):
                    yield placed
                if not reader.holds(records):
                    break
                reader.handled(records, tp, record.offset)
                await reader.commit_if_due()


async def subscribe_batches(
    settings: Settings,
    bootstrap: str,
    *,
    where: Predicate | None = None,
    group: str | None = None,
    start: Start = _NOW,
) -> AsyncGenerator[list[Placed], None]:
    """Yield events in lists of 1 to 500, as they come; else as :func:`subscribe`.

    A list counts as handled, all of it, when the next one is asked for.
    """
    async with _reading(settings, bootstrap, group, start) as reader:
        while True:
            records = await reader.read()
            found = [placed for _tp, one in records.records if (placed := _placed(one)) is not None]
            wanted = [one for one in found if where is None or where(one.event)]
            if wanted:
                yield wanted
            for tp, record in records.records:
                reader.handled(records, tp, record.offset)
            await reader.commit_if_due()


@asynccontextmanager
async def _reading(
    settings: Settings, bootstrap: str, group: str | None, start: Start
) -> AsyncIterator[Reader]:
    options = ReaderOptions(
        client=client_options(settings.kafka, bootstrap),
        topic=settings.topics.names.of("events"),
        group=group,
        start=start,
    )
    reader = Reader(options, SystemClock())
    try:
        await reader.open()
        yield reader
    finally:
        await reader.close()


def event_of(record: Any) -> MailEvent | None:
    """Return the event of a record of ``mail.events``; None, and a warning, if it holds none."""
    try:
        return _decode(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        place = Place(record.topic, record.partition, record.offset)
        log.warning("a record is no event", extra={**place._asdict(), "error": str(exc)})
        return None


def _placed(record: Any) -> Placed | None:
    event = event_of(record)
    if event is None:
        return None
    return Placed(event, Place(record.topic, record.partition, record.offset))
