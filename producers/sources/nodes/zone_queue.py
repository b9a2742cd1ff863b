"""ZoneMTA's queue as its database holds it: by zone, by age and by recipient domain.

One document per recipient.  Both questions read the whole collection, as ZoneMTA itself does every
10 s; it holds what waits, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from producers.sources.nodes.samples import Family, Sample

COLLECTION: Final = "zone-queue"

MAX_ZONES: Final = 100
MAX_DOMAINS: Final = 100
AGES_S: Final = (300, 3600, 14_400, 86_400)
"""Messages that have waited for longer than each of these are counted; ZoneMTA tries again after 5 min."""

Groups = Iterable[Mapping[str, Any]]

_QUEUED: Final = Family(
    "mail_mongodb_queue_messages",
    "Messages in ZoneMTA's zone-queue by zone and state (active, deferred), one per recipient.",
)
_OLDEST: Final = Family(
    "mail_mongodb_queue_oldest_seconds",
    "Age of the oldest message in ZoneMTA's zone-queue by zone.",
)
_OLDER: Final = Family(
    "mail_mongodb_queue_older_messages",
    "Messages in ZoneMTA's zone-queue that wait for longer than this, by zone.",
)
_DOMAINS: Final = Family(
    "mail_mongodb_queue_domain_messages",
    "Messages in ZoneMTA's zone-queue by recipient domain, of the 100 domains with the most.",
)


def questions(
    now: datetime,
) -> Iterator[tuple[list[dict[str, Any]], Callable[[Groups], list[Sample]]]]:
    """Yield each aggregation, and what its answer becomes."""
    yield by_zone(now), lambda groups: zone_samples(groups, now)
    yield BY_DOMAIN, domain_samples


def by_zone(now: datetime) -> list[dict[str, Any]]:
    """Return the aggregation that counts the queue as ZoneMTA itself does: due now, or later."""
    older: dict[str, Any] = {
        _older(age_s): {
            "$sum": {"$cond": [{"$lt": ["$created", now - timedelta(seconds=age_s)]}, 1, 0]}
        }
        for age_s in AGES_S
    }
    return [
        {
            "$group": {
                "_id": {"zone": "$sendingZone", "deferred": {"$gt": ["$queued", now]}},
                "messages": {"$sum": 1},
                "oldest": {"$min": "$created"},
                **older,
            }
        },
        {"$sort": {"_id": 1}},
        {"$limit": 2 * MAX_ZONES},
    ]


BY_DOMAIN: Final[list[dict[str, Any]]] = [
    {"$group": {"_id": "$domain", "messages": {"$sum": 1}}},
    {"$sort": {"messages": -1, "_id": 1}},
    {"$limit": MAX_DOMAINS},
]


def zone_samples(groups: Groups, now: datetime) -> list[Sample]:
    """Return the depth and age of the queue, of what :func:`by_zone` gives."""
    found: list[Sample] = []
    oldest: dict[str, datetime] = {}
    older: dict[tuple[str, int], int] = {}
    for group in groups:
        key = group["_id"]
        zone = str(key.get("zone"))
        state = "deferred" if key.get("deferred") else "active"
        found.append(_QUEUED.sample(group["messages"], zone=zone, state=state))
        created = group.get("oldest")
        if isinstance(created, datetime):
            oldest[zone] = min(created, oldest.get(zone, created))
        for age_s in AGES_S:
            waiting = older.get((zone, age_s), 0)
            older[zone, age_s] = waiting + int(group.get(_older(age_s), 0))
    for zone, created in oldest.items():
        found.append(_OLDEST.sample(max(0.0, (now - created).total_seconds()), zone=zone))
    for (zone, age_s), count in older.items():
        found.append(_OLDER.sample(count, zone=zone, seconds=str(age_s)))
    return found


def domain_samples(groups: Groups) -> list[Sample]:
    """Return the depth of the queue by recipient domain, of what :data:`BY_DOMAIN` gives."""
    return [
        _DOMAINS.sample(group["messages"], domain=group["_id"])
        for group in groups
        if isinstance(group["_id"], str)
    ]


def _older(age_s: int) -> str:
    return f"older_{age_s}"
