"""Runs a sink: one lane per topic, each a member of a group, and the sink's upkeep.

Kafka away, store away: the lane waits and goes on from the positions in the store.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from consumers.place import Place
from consumers.reader import Reader, ReaderOptions, Records
from consumers.sinks.base import Item, MovedError, Refused, Sink
from consumers.start import Beginning
from pipeline.core.errors import ConfigError, Reason, TransientError
from pipeline.core.topics import TOPIC
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.retry import Backoff, retry
from pipeline.kit.settings import Settings
from pipeline.kit.telemetry import ComponentMetrics, Stage

log = logging.getLogger(__name__)

MAX_RECORDS: Final = 5000
"""Stored in one step."""
PACE_S: Final = 0.5
"""How often small batches are stored: each costs a flush of the store's disk."""
UPKEEP: Final = "upkeep"
UPKEEP_S: Final = 30.0
ABSENT_S: Final = 60.0
"""How often a topic that is not there is looked for."""
OK: Final = "ok"
_AGAIN: Final = Backoff(base_s=0.2, cap_s=10.0, deadline_s=None)


class SinkMetrics:
    """What a sink counts about itself, and how it is."""

    def __init__(self, registry: CollectorRegistry, component: str) -> None:
        """Register in *registry*."""
        self.component = ComponentMetrics(registry, component, (*Reason, *Refused))
        self.rows = Counter(
            "mailstream_sink_rows_total", "Rows stored, by table.", ["table"], registry=registry
        )
        self.lag = Gauge(
            "mailstream_sink_lag_records",
            "Records of a topic that wait in the partitions of this process.",
            ["topic"],
            registry=registry,
        )
        self.newest = Gauge(
            "mailstream_sink_newest_timestamp_seconds",
            "When the newest record that was stored had been written to Kafka, by topic.",
            ["topic"],
            registry=registry,
        )
        self._waiting: dict[str, str] = {}

    def waits(self, part: str, reason: str) -> None:
        """Note that *part* waits, and for what."""
        self._waiting[part] = reason

    @contextmanager
    def noting(self, part: str) -> Iterator[None]:
        """Note that *part* works, or why it waits where the block fails and is to be tried again."""
        try:
            yield
        except (TransientError, MovedError) as exc:
            self.waits(part, str(exc))
            raise
        self._waiting.pop(part, None)

    def health(self) -> Mapping[str, Any]:
        """Return what ``/health`` tells."""
        if not self._waiting:
            return {"status": OK}
        return {"status": "waiting", "waiting": dict(sorted(self._waiting.items()))}


class Opening:
    """The part that connects to the store before anything is read, however long it takes."""

    name = "store"

    def __init__(self, sink: Sink, metrics: SinkMetrics, clock: Clock) -> None:
        """Open *sink*."""
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        metrics.waits(self.name, "the store has not been reached yet")

    async def start(self) -> None:
        """Connect, and have the store brought to our form.

        Raises:
            ConfigError: It cannot be used as it is.
        """
        await retry(self._open, clock=self._clock, backoff=_AGAIN)

    async def _open(self) -> None:
        with self._metrics.noting(self.name):
            await self._sink.open()

    async def run(self) -> None:
        """Have the store kept up until cancelled."""
        while True:
            await retry(self._upkeep, clock=self._clock, backoff=_AGAIN)
            await self._clock.sleep(UPKEEP_S)

    async def _upkeep(self) -> None:
        with self._metrics.noting(UPKEEP):
            await self._sink.upkeep()

    async def stop(self) -> None:
        """Disconnect."""
        await self._sink.close()


class Lane:
    """The part that stores one topic."""

    def __init__(
        self,
        settings: Settings,
        bootstrap: str,
        sink: Sink,
        process: str,
        topic: str,
        metrics: SinkMetrics,
        clock: Clock,
    ) -> None:
        """Prepare to store *topic*, without prefix, as the process called so."""
        self.name = topic
        self._topic = settings.topics.prefix + topic
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy
        self._options = ReaderOptions(
            client=client_options(settings.kafka, bootstrap),
            topic=self._topic,
            group=f"{settings.topics.prefix}{process}.{topic}",
            start=Beginning(),
            positions=self._positions,
            max_records=MAX_RECORDS,
        )
        self._reader = Reader(self._options, clock)

    async def _positions(self, partitions: Any) -> Mapping[int, int]:
        with self._metrics.noting(self.name):
            return await self._sink.positions(self._topic, partitions)

    async def start(self) -> None:
        """Return at once: Kafka may be away."""

    async def run(self) -> None:
        """Store what comes until cancelled."""
        while not await retry(self._open, clock=self._clock, backoff=_AGAIN):
            await self._clock.sleep(ABSENT_S)
        attempt = 0
        while True:
            begun = self._clock.monotonic()
            records = await self._reader.read()
            try:
                with self._metrics.noting(self.name):
                    await self._store(records)
            except (TransientError, MovedError) as exc:
                log.warning(
                    "storing failed, trying again",
                    extra={"topic": self._topic, "error": str(exc)},
                )
                self._reader.again()
                await self._clock.sleep(_AGAIN.wait_s(attempt, self._random))
                attempt += 1
                continue
            attempt = 0
            if not self._reader.waiting():
                await self._clock.sleep(max(0.0, begun + PACE_S - self._clock.monotonic()))

    async def _open(self) -> bool:
        """Connect; tell whether there is such a topic."""
        with self._metrics.noting(self.name):
            try:
                await self._reader.open()
            except ConfigError:
                if self.name in TOPIC:
                    raise
                return False  # one that this release does not make: another may
            return True

    async def _store(self, records: Records) -> None:
        items = [_item(record) for _tp, record in records.records]
        component = self._metrics.component
        try:
            written = await self._sink.write(self._topic, items)
        except TransientError:
            component.failed(Refused.STORE, Stage.SENDING)
            raise
        for tp, record in records.records:
            self._reader.handled(records, tp, record.offset)
        rejected = sum(written.rejected.values())
        component.received(len(items))
        component.sent(len(items) - rejected)
        for reason, count in written.rejected.items():
            component.discarded(reason, count)
        for table, count in written.rows.items():
            self._metrics.rows.labels(table).inc(count)
        component.succeeded(self._clock.now_ms())
        self._metrics.newest.labels(self.name).set(max(one.time_ms for one in items) / 1000)
        waiting = self._reader.waiting()
        if waiting is not None:
            self._metrics.lag.labels(self.name).set(waiting)

    async def stop(self) -> None:
        """Commit to Kafka what was stored, for its tools, and leave the group."""
        await self._reader.close()


def _item(record: Any) -> Item:
    return Item(
        Place(record.topic, record.partition, record.offset),
        record.timestamp,
        record.key,
        record.value or b"",
        tuple(record.headers),
    )


def parts(
    settings: Settings,
    bootstrap: str,
    sink: Sink,
    process: str,
    metrics: SinkMetrics,
    clock: Clock,
) -> Sequence[Opening | Lane]:
    """Return the parts of a process that runs *sink*: the store first, a lane per topic."""
    lanes = [
        Lane(settings, bootstrap, sink, process, topic, metrics, clock) for topic in sink.topics
    ]
    return [Opening(sink, metrics, clock), *lanes]
