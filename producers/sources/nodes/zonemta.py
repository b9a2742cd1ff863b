"""One ZoneMTA through its HTTP API: queue by zone, oldest message, lists, and its own metrics.

The API has no authentication and can delete mail: the agent only ever sends GET.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from pipeline.core.errors import RecordError
from pipeline.core.timestamp import epoch_ms
from pipeline.kit.settings_nodes import ZonemtaNode
from producers.http_api import HttpApi, decoded
from producers.sources.nodes.exposition import shown_again
from producers.sources.nodes.samples import Family, Sample

SOURCE: Final = "zonemta"

COUNTERS: Final = "/counter/zone/"
BLACKLIST: Final = "/blacklist"
SUPPRESSIONS: Final = "/suppressionlist"
METRICS: Final = "/metrics"

MAX_ZONES: Final = 100
"""Zones with names; the rest are summed as ``_other``."""
MAX_BLACKLISTED: Final = 1_000
LISTS_EVERY_MS: Final = 300_000
"""Lists that have no paging and change seldom are read so often."""

OTHER: Final = "_other"
_STATES: Final = {"active": "queued", "deferred": "deferred"}
"""Our names of what a queued message is, and those of the listing."""
_OLDEST_FIRST: Final = {"pageSize": "1", "sort": "created", "order": "asc"}

_QUEUE: Final = Family(
    "mail_zonemta_queue_messages",
    "Messages in the queue, one per recipient, by zone and state (active, deferred); nodes of a cluster share it.",
    per_cluster=True,
)
_OLDEST: Final = Family(
    "mail_zonemta_queue_oldest_seconds",
    "Age of the oldest message in the queue by zone; 0: the queue is empty.",
    per_cluster=True,
)
_BLACKLISTED: Final = Family(
    "mail_zonemta_blacklisted",
    "1 while ZoneMTA avoids an address of ours for a recipient domain, because the domain's servers blocked it; at most 1,000 pairs.",
)
_PAIRS: Final = Family(
    "mail_zonemta_blacklisted_pairs",
    "Pairs of address and recipient domain that ZoneMTA avoids, the ones without a series of their own included.",
)
_SUPPRESSED: Final = Family(
    "mail_zonemta_suppressed",
    "Addresses and domains on the suppression list, which nothing is sent to.",
)
_SKIPPED: Final = Family(
    "mail_zonemta_skipped_domains", "Recipient domains that a zone leaves to others."
)
RENAMED: Final = {"zonemta_blacklisted": "blacklist_entries"}
"""Of its own metrics; the name is taken by the series per address and domain."""

Queue = dict[tuple[str, str], int]
"""Messages by zone and state."""


class _Entry(msgspec.Struct, gc=False):
    key: str
    value: int


class _Entries(msgspec.Struct, gc=False):
    entries: list[_Entry]


class _Counters(msgspec.Struct, gc=False):
    active: _Entries
    deferred: _Entries


class _Queued(msgspec.Struct, gc=False):
    created: str | int | None = None


class _Listing(msgspec.Struct, gc=False):
    items: list[_Queued] = msgspec.field(name="list")


class _Blocked(msgspec.Struct, gc=False):
    address: str
    domain: str


class _Blacklist(msgspec.Struct, gc=False):
    items: list[_Blocked] = msgspec.field(name="list")


class _Suppressions(msgspec.Struct, gc=False):
    suppressed: list[dict[str, Any]]


class _SkipDomains(msgspec.Struct, gc=False):
    skipDomains: bool | list[str]  # noqa: N815  its name in the API


def queue_of(body: bytes) -> Queue:
    """Return the messages by zone and state, of an answer to ``/counter/zone/``.

    Raises:
        TransientError: The answer has another shape.
    """
    counters = decoded(body, _Counters, COUNTERS)
    states = {"active": counters.active.entries, "deferred": counters.deferred.entries}
    zones = sorted({entry.key for entries in states.values() for entry in entries})
    kept = set(zones[:MAX_ZONES])
    queue: Queue = {}
    for state, entries in states.items():
        for entry in entries:
            place = (entry.key if entry.key in kept else OTHER), state
            queue[place] = queue.get(place, 0) + entry.value
    return queue


def oldest_of(body: bytes, path: str) -> int | None:
    """Return when the first message of a listing was created, ms since the epoch, or None.

    Raises:
        TransientError: The answer has another shape.
    """
    for message in decoded(body, _Listing, path).items:
        if message.created is not None:
            return _moment(message.created)
    return None


def _moment(created: str | int) -> int | None:
    """Return a time that JavaScript wrote: a number is in milliseconds there."""
    if isinstance(created, int):
        return created
    try:
        return epoch_ms(created)
    except RecordError:
        return None


def queue_samples(
    cluster: str, queue: Queue, oldest: Mapping[str, int], now_ms: int
) -> Iterator[Sample]:
    """Yield the size of the queue, and its age from when the oldest message of each zone came."""
    for (zone, state), count in queue.items():
        yield _QUEUE.sample(count, cluster=cluster, zone=zone, state=state)
    for zone in dict.fromkeys(zone for zone, _ in queue):
        age_ms = max(0, now_ms - oldest[zone]) if zone in oldest else 0
        yield _OLDEST.sample(age_ms / 1000, cluster=cluster, zone=zone)


def blacklist_samples(body: bytes) -> list[Sample]:
    """Return one sample per address and domain, of an answer to ``/blacklist``.

    Raises:
        TransientError: The answer has another shape.
    """
    pairs = {(one.address, one.domain) for one in decoded(body, _Blacklist, BLACKLIST).items}
    shown = [
        _BLACKLISTED.sample(1, ip=ip, domain=domain)
        for ip, domain in sorted(pairs)[:MAX_BLACKLISTED]
    ]
    return [_PAIRS.sample(len(pairs)), *shown]


def suppression_samples(body: bytes) -> list[Sample]:
    """Return the size of the suppression list.

    Raises:
        TransientError: The answer has another shape.
    """
    return [_SUPPRESSED.sample(len(decoded(body, _Suppressions, SUPPRESSIONS).suppressed))]


def skipped_samples(bodies: Mapping[str, bytes]) -> list[Sample]:
    """Return how many domains each zone skips, of the answers to ``/skipdomains/{zone}``.

    Raises:
        TransientError: An answer has another shape.
    """
    found = []
    for zone, body in bodies.items():
        domains = decoded(body, _SkipDomains, "/skipdomains").skipDomains
        found.append(_SKIPPED.sample(0 if isinstance(domains, bool) else len(domains), zone=zone))
    return found


class Zonemta:
    """Polls one node."""

    source = SOURCE

    def __init__(self, node: ZonemtaNode) -> None:
        """Poll *node*.

        Raises:
            ConfigError: Its ``cafile`` cannot be used.
        """
        login = None
        if node.username is not None and node.password is not None:
            login = node.username, node.password.get_secret_value()
        self.node = node.name
        self.interval_ms = node.interval
        self._cluster = node.cluster
        self._api = HttpApi(node.url, login=login, cafile=node.cafile)
        self._lists: list[Sample] = []
        self._lists_due_ms = 0

    async def poll(self, now_ms: int) -> list[Sample]:
        """Return what the node says now.

        Raises:
            TransientError: It does not answer, or not as is known.
        """
        queue = queue_of(await self._api.get(COUNTERS))
        oldest = await self._oldest(queue)
        found = [
            *queue_samples(self._cluster, queue, oldest, now_ms),
            *blacklist_samples(await self._api.get(BLACKLIST)),
        ]
        page = await self._api.get_if_there(METRICS)
        if page is not None:
            found += shown_again(page.decode(errors="replace"), SOURCE, RENAMED)
        if now_ms >= self._lists_due_ms:
            self._lists = await self._read_lists(zone for zone, _ in queue)
            self._lists_due_ms = now_ms + LISTS_EVERY_MS
        return found + self._lists

    async def close(self) -> None:
        """Close its connections."""
        await self._api.close()

    async def _oldest(self, queue: Queue) -> dict[str, int]:
        """Return when the oldest message of each zone came, ms since the epoch."""
        oldest: dict[str, int] = {}
        for (zone, state), count in queue.items():
            if count and zone != OTHER:
                path = f"/queued/{_STATES[state]}/{quote(zone, safe='')}"
                created = oldest_of(await self._api.get(path, _OLDEST_FIRST), path)
                if created is not None:
                    oldest[zone] = min(created, oldest.get(zone, created))
        return oldest

    async def _read_lists(self, zones: Iterable[str]) -> list[Sample]:
        bodies = {}
        for zone in sorted(set(zones) - {OTHER}):
            body = await self._api.get_if_there(f"/skipdomains/{quote(zone, safe='')}")
            if body is not None:
                bodies[zone] = body
        suppressed = await self._api.get_if_there(SUPPRESSIONS)
        found = skipped_samples(bodies)
        return found + (suppression_samples(suppressed) if suppressed is not None else [])
