"""The recount of what phase 1 counts from its start on: counters and histograms, by name and labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from tests.kit.oracle import FAILURES, LOGINS, Fact, is_customer

BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)

Key = tuple[str, tuple[str, ...]]


def counters(facts: Iterable[Fact]) -> Counter[Key]:
    """Return every counter of events, late ones included, by name and labels."""
    return Counter(key for fact in facts for key in _counted(fact))


def times(facts: Iterable[Fact]) -> dict[Key, list[float]]:
    """Return the times in s that each histogram holds, by name and labels."""
    held: dict[Key, list[float]] = defaultdict(list)
    for fact in facts:
        for key, ms in _timed(fact):
            if ms is not None:
                held[key].append(ms / 1000)
    return dict(held)


def buckets(seconds: Iterable[float]) -> list[int]:
    """Return how many times are in each bucket: above the last bound and at most its own."""
    held = [0] * (len(BOUNDS) + 1)
    for one in seconds:
        held[next((at for at, bound in enumerate(BOUNDS) if one <= bound), len(BOUNDS))] += 1
    return held


def _counted(fact: Fact) -> Iterator[Key]:
    kind = fact.event_type
    direction = "none" if kind in LOGINS else fact.direction
    yield "mail_events_total", (fact.source, kind, direction)
    if not is_customer(fact) or fact.provider is None:
        return
    yield "mail_provider_outcomes_total", (fact.provider, kind)
    if fact.sending_ip is not None:
        yield "mail_ip_outcomes_total", (fact.sending_ip, fact.provider, kind)
    if kind in FAILURES and fact.bounce_class is not None:
        yield "mail_failures_total", (fact.provider, kind, fact.bounce_class)


def _timed(fact: Fact) -> Iterator[tuple[Key, float | None]]:
    if fact.route is not None and fact.outcome in ("inbox", "junk"):
        yield ("mail_route_roundtrip_seconds", (fact.route, fact.origin)), fact.delivery_ms
    if not is_customer(fact) or fact.event_type != "delivered":
        return
    if fact.provider is not None:
        yield ("mail_provider_delivery_seconds", (fact.provider,)), fact.delivery_ms
        yield ("mail_provider_queue_seconds", (fact.provider,)), fact.queue_ms
        yield ("mail_provider_smtp_seconds", (fact.provider,)), fact.smtp_ms
    if fact.sending_ip is not None:
        yield ("mail_ip_delivery_seconds", (fact.sending_ip,)), fact.delivery_ms
