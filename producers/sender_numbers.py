"""Which of a sender's numbered events arrived: nothing may vanish between a sender and Kafka unseen.

A sender numbers its events 1, 2, 3 … from each start (a *boot*).  Posts say which numbers they
carry, heartbeats how far the numbers have come, how many events wait and how many were given up.
What is neither acknowledged, nor waiting, nor given up is missing.

What was posted before this service started, or to another one, is unknown.  So the accounts of a
boot that is not seen from its number 1 on begin with its first heartbeat, which shows nothing
missing by itself.

Everything is bounded: boots per sender, and intervals per boot.  Pure.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pipeline.core.errors import Reason, RecordError
from pipeline.core.observation import MAX_NUMBER, Heartbeat

BOOT_HEADER: Final = "X-Boot-Id"
NUMBERS_HEADER: Final = "X-Numbers"

MAX_BOOTS: Final = 64
"""Boots remembered per sender: an MTA of many processes has one per process."""
MAX_INTERVALS: Final = 1_000
SILENT_MS: Final = 60_000
"""What a sender held that sent no heartbeat for so long is no longer shown."""

_BOOT: Final = re.compile(r"[\x21-\x7e]{1,64}")
_NUMBERS: Final = re.compile(r"([0-9]{1,16})-([0-9]{1,16})", re.ASCII)


class Numbers(NamedTuple):
    """The numbers of one post, first and last included."""

    boot_id: str
    first: int
    last: int


def numbers_of(headers: Mapping[str, str]) -> Numbers | None:
    """Return what the headers say, or None where they say nothing.

    Raises:
        RecordError: They are not of the form that is documented.
    """
    boot, text = headers.get(BOOT_HEADER), headers.get(NUMBERS_HEADER)
    if boot is None and text is None:
        return None
    if boot is None or text is None:
        raise RecordError(
            Reason.MISSING_FIELD, f"{BOOT_HEADER} and {NUMBERS_HEADER} stand together"
        )
    if _BOOT.fullmatch(boot) is None:
        raise RecordError(
            Reason.INVALID_FIELD, f"{BOOT_HEADER}: expected 1 to 64 printable ASCII characters"
        )
    match = _NUMBERS.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MAX_NUMBER:
        raise RecordError(
            Reason.INVALID_FIELD, f"{NUMBERS_HEADER}: expected first-last, counted from 1"
        )
    return Numbers(boot, int(match[1]), int(match[2]))


def require_as_many(numbers: Numbers | None, events: int) -> None:
    """Make sure that a post has a number for each of its events.

    Raises:
        RecordError: It has more or fewer.
    """
    if numbers is not None and numbers.last - numbers.first + 1 != events:
        raise RecordError(
            Reason.INVALID_FIELD, f"{NUMBERS_HEADER}: expected one number per event of the post"
        )


class Intervals:
    """A set of whole numbers as sorted, disjoint intervals that do not touch, at most so many.

    Beyond the bound the lowest two become one.  What lay between is remembered as a count: a
    number of it that comes later is not told apart from a repetition.
    """

    def __init__(self, most: int = MAX_INTERVALS) -> None:
        """Begin empty."""
        self._most = most
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._between = 0
        self._held = 0

    def __len__(self) -> int:
        return len(self._firsts)

    @property
    def count(self) -> int:
        """Return how many numbers were added, each counted once."""
        return self._held - self._between

    def add(self, first: int, last: int) -> None:
        """Add the numbers from *first* to *last*, both included."""
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        gone = zip(self._firsts[low:high], self._lasts[low:high], strict=True)
        self._held += last - first + 1 - sum(end - begin + 1 for begin, end in gone)
        self._firsts[low:high], self._lasts[low:high] = [first], [last]
        if len(self._firsts) > self._most:
            gap = self._firsts[1] - self._lasts[0] - 1
            self._between += gap
            self._held += gap
            del self._firsts[1], self._lasts[0]


@dataclass(slots=True)
class _Boot:
    """The accounts of one start of a sender."""

    acknowledged: Intervals = field(default_factory=Intervals)
    from_start: bool = False
    unknown: int | None = None
    """Numbers that went elsewhere, or before our time; None: not known yet."""
    last_seq: int = 0
    buffered: int = 0
    dropped: int = 0
    missing: int = 0
    heard_ms: int = 0

    def heartbeat(self, told: Heartbeat, now_ms: int) -> None:
        self.heard_ms = max(self.heard_ms, now_ms)
        if told.last_seq < self.last_seq:
            return  # overtaken by a later one
        self.last_seq, self.buffered = told.last_seq, told.buffered
        self.dropped = max(self.dropped, told.dropped_total)
        self.from_start |= told.last_seq == 0
        missing = told.last_seq - self.acknowledged.count - told.buffered - told.dropped_total
        if self.unknown is None:
            self.unknown = 0 if self.from_start else max(0, missing)
        self.missing = max(self.missing, missing - self.unknown)


class Sums(NamedTuple):
    """What one sender's boots come to."""

    buffered: int
    dropped: int
    missing: int
    heard_ms: int
    """When its last heartbeat came; 0: never."""


@dataclass(slots=True)
class _Sender:
    boots: OrderedDict[str, _Boot] = field(default_factory=OrderedDict)
    """The one that was heard of last stands last."""
    dropped: int = 0
    missing: int = 0
    """Of boots that are forgotten."""
    heard_ms: int = 0

    def boot(self, boot_id: str) -> _Boot:
        boot = self.boots.get(boot_id)
        if boot is None:
            boot = self.boots[boot_id] = _Boot()
            if len(self.boots) > MAX_BOOTS:
                _, oldest = self.boots.popitem(last=False)
                self.dropped += oldest.dropped
                self.missing += oldest.missing
        self.boots.move_to_end(boot_id)
        return boot


class SenderNumbers:
    """The accounts of all senders that post here, by source and origin."""

    def __init__(self) -> None:
        """Begin with none."""
        self._senders: dict[tuple[str, str], _Sender] = {}

    def acknowledged(self, source: str, origin: str, numbers: Numbers) -> None:
        """Note that Kafka has the events of a post, or that they can never be taken."""
        boot = self._sender(source, origin).boot(numbers.boot_id)
        boot.from_start |= numbers.first == 1 and boot.unknown is None
        boot.acknowledged.add(numbers.first, numbers.last)

    def heartbeat(self, source: str, origin: str, told: Heartbeat, now_ms: int) -> None:
        """Note what a sender says about itself."""
        sender = self._sender(source, origin)
        sender.heard_ms = max(sender.heard_ms, now_ms)
        sender.boot(told.boot_id).heartbeat(told, now_ms)

    def sums(self, now_ms: int) -> Iterator[tuple[tuple[str, str], Sums]]:
        """Yield each sender, as source and origin, that ever sent a heartbeat, and its sums."""
        for key, sender in self._senders.items():
            boots = sender.boots.values()
            if sender.heard_ms:
                yield (
                    key,
                    Sums(
                        sum(one.buffered for one in boots if now_ms - one.heard_ms <= SILENT_MS),
                        sender.dropped + sum(one.dropped for one in boots),
                        sender.missing + sum(one.missing for one in boots),
                        sender.heard_ms,
                    ),
                )

    def _sender(self, source: str, origin: str) -> _Sender:
        return self._senders.setdefault((source, origin), _Sender())
