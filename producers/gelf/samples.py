"""Samples of bad GELF messages on the topic of dead letters, for an operator to see what was wrong.

Only a few of each reason a minute, cut, and with addresses hashed.  What is packed is shown only
if it could be inflated, and what is no text never is.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter as Multiset
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import xxhash
from prometheus_client import CollectorRegistry, Counter

from pipeline.core import gelf
from pipeline.core.batch import Output, OutRecord
from pipeline.core.errors import RecordError, TransientError
from pipeline.kit.clock import Clock
from pipeline.kit.retry import Backoff
from pipeline.kit.settings import TopicSettings
from producers.appender import Appender, by_partition
from producers.gelf.messages import begins_message
from producers.privacy import Privacy

TOPIC: Final = "dead"
MAX_TEXT: Final = 4096
"""Bytes of a message that are shown."""
MINUTE_MS: Final = 60_000

_PLAIN: Final = b"{"
_LAST_TOKEN: Final = re.compile(rb"[^\s\"'<>()\[\]{},;:]*\Z")
"""Where a text was cut, half an address could stand, which nobody would know for one."""
_MOST_WAITING: Final = 1000
_BACKOFF: Final = Backoff(base_s=0.2, cap_s=5.0, deadline_s=None)


class Fate(StrEnum):
    """What became of a sample; the metric label ``result``."""

    WRITTEN = "written"
    LOST = "lost"
    """Too many waited for Kafka already."""


def sample_of(text: bytes, error: RecordError, origin: str, privacy: Privacy) -> OutRecord | None:
    """Return the dead letter of a bad message, or None if it is no text."""
    if not text or (begins_message(text) and not text.startswith(_PLAIN)):
        return None
    if len(text) > MAX_TEXT:
        text = _LAST_TOKEN.sub(b"", text[:MAX_TEXT])
    try:
        shown = privacy.redact(text.decode())
    except UnicodeDecodeError:
        return None
    value = shown.encode()
    headers = [
        ("error", str(error).encode()),
        ("source", gelf.SOURCE.encode()),
        ("origin", origin.encode()),
    ]
    return OutRecord(value, xxhash.xxh3_64_hexdigest(value).encode(), headers)


class Samples:
    """A part of a producer's process: chooses samples and writes them."""

    name = "samples"

    def __init__(
        self,
        privacy: Privacy,
        appender: Appender,
        topics: TopicSettings,
        registry: CollectorRegistry,
        clock: Clock,
        *,
        per_minute: int,
    ) -> None:
        """Write at most *per_minute* of each reason with *appender*."""
        self._privacy = privacy
        self._appender = appender
        self._topics = topics
        self._clock = clock
        self._per_minute = per_minute
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy
        self._minute = 0
        self._chosen: Multiset[StrEnum] = Multiset()
        """Of this minute, by reason."""
        self._waiting: asyncio.Queue[OutRecord] = asyncio.Queue(_MOST_WAITING)
        counter = Counter(
            "mailstream_gelf_samples_total",
            "Samples of bad GELF messages for mail.dead, by what became of them.",
            ["result"],
            registry=registry,
        )
        self._count = {fate: counter.labels(fate.value) for fate in Fate}

    def take(self, text: bytes, error: RecordError, origin: str, received_ms: int) -> None:
        """Keep a bad message if there are not too many of its kind; never waits."""
        minute = received_ms // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._chosen.clear()
        if self._chosen[error.reason] >= self._per_minute:
            return
        sample = sample_of(text, error, origin, self._privacy)
        if sample is None:
            return
        self._chosen[error.reason] += 1
        try:
            self._waiting.put_nowait(sample)
        except asyncio.QueueFull:
            self._count[Fate.LOST].inc()

    async def start(self) -> None:
        """Begin with nothing."""

    async def run(self) -> None:
        """Write until cancelled; while Kafka is away a bounded number waits."""
        while True:
            sample = await self._waiting.get()
            outputs = by_partition([sample], self._topics.names.of(TOPIC), self._topics.partitions)
            await self._write(outputs)
            self._count[Fate.WRITTEN].inc()

    async def _write(self, outputs: Sequence[Output]) -> None:
        attempt = 0
        while True:
            try:
                await self._appender.append(outputs)
            except TransientError:
                await self._clock.sleep(_BACKOFF.wait_s(attempt, self._random))
                attempt += 1
            else:
                return

    async def stop(self) -> None:
        """Let go of what waits: it is counted by reason anyway."""
