"""What travels through Faust: whole runs of records of one partition, as single events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import faust

from pipeline.core.batch import Record, TopicPartition
from pipeline.transport.unpack import Unpacked, size_of

MAX_RECORDS: Final = 10_000
MIN_RECORDS: Final = 1_000
TURN_S: Final = 0.1
"""CPU time that a batch may take; on a slow machine batches become smaller."""
PACED_BYTES: Final = 16 << 20
UNPACED_BYTES: Final = 4 << 20
"""A batch is not filled beyond this either: records may be large, and frames are."""
IN_FLIGHT: Final = 2
"""Batches of one partition that may be on their way: one at work, one waiting."""


class Tap:
    """One run of reading one partition, from a seek to the next one.

    It is made anew by every seek, so a batch read before a seek is told by its tap.  Two
    threads share it without a lock: the reading thread alone writes all fields but *received*,
    *taken* and *max_records*, which the main thread alone writes.
    """

    __slots__ = (
        "delivered",
        "end",
        "held",
        "max_records",
        "max_size",
        "paced",
        "received",
        "released_at",
        "size",
        "start",
        "taken",
        "tp",
    )

    def __init__(self, tp: TopicPartition, offset: int, *, paced: bool) -> None:
        """Begin to read *tp* at *offset*; a *paced* tap gives one batch per commit interval."""
        self.tp = tp
        self.paced = paced
        self.start = self.end = offset
        """The log positions that the held records cover."""
        self.held: list[Record] = []
        self.size = 0
        """Bytes of the held records' values."""
        self.max_records = MAX_RECORDS
        self.max_size = PACED_BYTES if paced else UNPACED_BYTES
        self.released_at = float("-inf")
        self.delivered = 0
        self.received = 0
        self.taken = 0

    @property
    def room(self) -> int:
        """How many more records may be held; 0 when full."""
        return 0 if self.size >= self.max_size else max(0, self.max_records - len(self.held))

    def take(self, unpacked: Unpacked, position: int) -> None:
        """Hold more records; the partition is now read up to *position*."""
        if self.held:
            self.held.extend(unpacked.records)
        else:
            self.held = unpacked.records
        self.size += unpacked.size
        self.end = position

    def due_at(self, interval_s: float) -> float:
        """Return the monotonic time from which a batch may be released; infinity: none yet."""
        if self.delivered - self.taken >= IN_FLIGHT:
            return float("inf")
        if not self.paced:
            return float("-inf") if self.end > self.start else float("inf")
        if not self.held:
            return float("inf")
        return float("-inf") if self.room == 0 else self.released_at + interval_s

    def release(self, now: float) -> RecordBatch:
        """Hand out what is held, as much as a batch may have."""
        held, end, limit = self.held, self.end, self.max_records
        if len(held) > limit:
            end = held[limit].offset
            self.held, held = held[limit:], held[:limit]
            self.size = size_of(self.held)
        else:
            self.held, self.size = [], 0
        batch = RecordBatch(self, held, self.start, end)
        self.start = end
        self.released_at = now
        self.delivered += 1
        return batch

    def adapt(self, records: int, cpu_s: float) -> None:
        """Limit batches to what takes :data:`TURN_S`, as *records* took *cpu_s* (main thread)."""
        if records >= MIN_RECORDS:
            fitting = int(TURN_S * records / max(cpu_s, 1e-9))
            self.max_records = min(MAX_RECORDS, max(MIN_RECORDS, fitting))

    @property
    def drained(self) -> bool:
        """Whether everything that was read has been dealt with."""
        return not self.held and self.delivered == self.taken


class RecordBatch:
    """The records of log positions ``[start, end)`` of one partition, as the log holds them."""

    __slots__ = ("end", "records", "start", "tap")

    def __init__(self, tap: Tap, records: Sequence[Record], start: int, end: int) -> None:
        """Take the records as aiokafka parsed them: nothing is made per record."""
        self.tap = tap
        self.records = records
        self.start = start
        self.end = end

    @property
    def tp(self) -> TopicPartition:
        """Where the records come from."""
        return self.tap.tp


class BatchSchema(faust.Schema):  # type: ignore[misc]  # faust is untyped here
    """Passes a batch through Faust as it is."""

    def compile(self, app: Any, **_: Any) -> Any:
        """Return Faust's decoder: the value of the event is the batch."""

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001  Faust's signature
            return app.create_event(None, message.value, message.headers, message)

        return decode
