"""What the view remembers of single events: the newest ones, and what was last seen of each key.

Sums are the board's; this is what sums do not say.  Everything here is bounded: the oldest
untouched entries make room.  Pure.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from operator import attrgetter
from typing import Final, Generic, NamedTuple, TypeVar

from pipeline.core.errors import RecordError
from pipeline.core.event import MailEvent
from pipeline.core.families import FAMILY, KEY_SEPARATOR, MAIL_TYPES, Mail
from pipeline.core.membership import is_of
from pipeline.core.timestamp import epoch_ms

DETAILED: Final = ("user", "ip", "domain", "destination", "client_ip")
"""The dimensions whose keys have details."""
MAX_KEYS: Final = 100_000
"""Keys remembered per dimension: 300 bytes each."""
MAX_DOMAINS: Final = 5_000
MAX_TIMES: Final = 200
"""Newest delivery times remembered per recipient domain."""
MAX_WAITING: Final = 100_000
"""Deferred deliveries remembered."""
MAX_SOURCES: Final = 1_000
MAX_LIVE: Final = 500
"""Newest events kept for those who look."""
_ENDINGS: Final = frozenset({"delivered", "bounced", "expired", "rejected"})

_K = TypeVar("_K")
_V = TypeVar("_V")


class Lru(Generic[_K, _V]):
    """A dictionary that forgets what was not set for longest."""

    def __init__(self, most: int) -> None:
        """Keep at most *most* entries."""
        self._most = most
        self._held: OrderedDict[_K, _V] = OrderedDict()

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self._held)

    def get(self, key: _K) -> _V | None:
        """Return what is held of *key*."""
        return self._held.get(key)

    def put(self, key: _K, value: _V) -> tuple[_K, _V] | None:
        """Set *key*, and return the entry that had to go, if any."""
        self._held[key] = value
        self._held.move_to_end(key)
        return self._held.popitem(last=False) if len(self._held) > self._most else None

    def items(self) -> Iterator[tuple[_K, _V]]:
        """Yield the entries, that set longest ago first."""
        yield from self._held.items()

    def pop(self, key: _K) -> _V | None:
        """Take *key* out."""
        return self._held.pop(key, None)


@dataclass(slots=True)
class Detail:
    """What was seen of one key."""

    first_ms: int
    last_ms: int
    reply: str | None = None
    """The last reply of a remote server that was no success, addresses in it hashed."""
    reply_ms: int = 0


@dataclass(slots=True)
class Domain:
    """How delivery to one recipient domain goes."""

    times_ms: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_TIMES))
    waiting: int = 0
    """Deliveries that were deferred and have had no end yet, as far as is remembered."""
    hosts: Lru[str, int] = field(default_factory=lambda: Lru(10))
    """Mail exchangers that answered, and when last."""

    def percentile(self, percent: int) -> float | None:
        """Return the delivery time that *percent* of the newest deliveries kept within."""
        if not self.times_ms:
            return None
        ordered = sorted(self.times_ms)
        return ordered[ceil(len(ordered) * percent / 100) - 1]


@dataclass(slots=True)
class Source:
    """What one origin sent."""

    events: int = 0
    """Since the view was started."""
    received_ms: int = 0
    """When its newest event was received."""
    event_ms: int = 0
    """When its newest event happened."""


class Live(NamedTuple):
    """One of the newest events."""

    number: int
    """Counts from 1 since the view was started."""
    event: MailEvent


class Recent:
    """Takes events in the order of reading; those of an hour ago as well as those of now."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._details: dict[str, Lru[str, Detail]] = {name: Lru(MAX_KEYS) for name in DETAILED}
        self._readers = [
            (details, attrgetter(*FAMILY[name].fields), FAMILY[name].mail is Mail.CUSTOMER)
            for name, details in self._details.items()
        ]
        """Of each dimension: where details go, what reads the values of a key, and of which mail."""
        self._domains: Lru[str, Domain] = Lru(MAX_DOMAINS)
        self._waiting: Lru[tuple[str, str], str] = Lru(MAX_WAITING)
        self._nodes: Lru[str, str] = Lru(MAX_WAITING)
        self._sources: Lru[tuple[str, str], Source] = Lru(MAX_SOURCES)
        self._live: deque[Live] = deque(maxlen=MAX_LIVE)
        self.events = 0
        """Events taken since the start."""

    def take(self, event: MailEvent) -> None:
        """Remember *event*."""
        self.events += 1
        self._live.append(Live(self.events, event))
        try:
            event_ms = epoch_ms(event.timestamp or "")
            received_ms = epoch_ms(event.received or "")
        except RecordError:
            return
        self._count(event, event_ms, received_ms)
        mail = event.event_type in MAIL_TYPES
        customer = mail and is_of(Mail.CUSTOMER, event)
        if mail and not event.late:
            for details, values, of_customers in self._readers:
                key = _key(values(event)) if customer or not of_customers else None
                if key is not None:
                    _note(details, key, event, event_ms)
        if customer and event.to_domain:
            self._deliver(event, event.to_domain, event_ms)
        if event.queue_id and event.mta_node:
            self._nodes.put(event.queue_id, event.mta_node)

    def detail(self, dimension: str, key: str) -> Detail | None:
        """Return what was seen of a joined key."""
        held = self._details.get(dimension)
        return None if held is None else held.get(key)

    def domain(self, name: str) -> Domain | None:
        """Return how delivery to a recipient domain goes."""
        return self._domains.get(name)

    def node_of(self, queue_id: str) -> str | None:
        """Return the MTA node that a queue id was last heard of from."""
        return self._nodes.get(queue_id)

    def sources(self) -> list[tuple[tuple[str, str], Source]]:
        """Return what sends, by source and origin."""
        return sorted(self._sources.items(), key=lambda one: one[0])

    def live(self, after: int) -> Sequence[Live]:
        """Return the newest events with a number above *after*, oldest first."""
        return list(_after(self._live, after))

    def _count(self, event: MailEvent, event_ms: int, received_ms: int) -> None:
        origin = event.source or "", event.origin or ""
        source = self._sources.get(origin) or Source()
        source.events += 1
        source.received_ms = max(source.received_ms, received_ms)
        source.event_ms = max(source.event_ms, event_ms)
        self._sources.put(origin, source)

    def _deliver(self, event: MailEvent, name: str, event_ms: int) -> None:
        domain = self._domains.get(name) or Domain()
        self._domains.put(name, domain)
        if event.mx_host:
            domain.hosts.put(event.mx_host, event_ms)
        took_ms = event.queue_time_ms if event.delivery_time_ms is None else event.delivery_time_ms
        if event.event_type == "delivered" and took_ms is not None:
            domain.times_ms.append(float(took_ms))
        if not event.queue_id:
            return
        delivery = event.queue_id, event.seq or ""
        if event.event_type == "deferred" and self._waiting.get(delivery) is None:
            domain.waiting += 1
            gone = self._waiting.put(delivery, name)
            if gone is not None:
                self._less(gone[1])
        elif event.event_type in _ENDINGS:
            ended = self._waiting.pop(delivery)
            if ended is not None:
                self._less(ended)

    def _less(self, name: str) -> None:
        domain = self._domains.get(name)
        if domain is not None and domain.waiting:
            domain.waiting -= 1


def _note(details: Lru[str, Detail], key: str, event: MailEvent, event_ms: int) -> None:
    detail = details.get(key) or Detail(event_ms, event_ms)
    detail.first_ms = min(detail.first_ms, event_ms)
    detail.last_ms = max(detail.last_ms, event_ms)
    reply = event.response_message or event.error_message
    failed = event.event_type not in {"delivered", "sent", "received"}
    if reply and failed and event_ms >= detail.reply_ms:
        detail.reply, detail.reply_ms = reply, event_ms
    details.put(key, detail)


def _key(values: str | tuple[str | None, ...] | None) -> str | None:
    """Return the joined key of one or more values, or None if one is absent."""
    if isinstance(values, tuple):
        present = [value for value in values if value]
        return KEY_SEPARATOR.join(present) if len(present) == len(values) else None
    return values or None


def _after(live: deque[Live], number: int) -> Iterator[Live]:
    return (one for one in live if one.number > number)
