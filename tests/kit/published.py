"""What ``mail.panes`` must hold, counted from events in the plainest way, and what records add up to.

Written from the contract alone; it shares no code with the pipeline.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

PANE_MS = 300_000
BOUNDS_MS = (100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 1_800_000, 7_200_000)
FIELDS = {"user": ("user",), "ip": ("sending_ip",), "ip_provider": ("sending_ip", "provider")}
LOGINS_AND_PROBES = ("auth_succeeded", "auth_failed", "probe")

Slot = tuple[str, tuple[str, ...], str, int]
"""Family, key, event type, start in ms."""
Sums = tuple[int, int, int, int, tuple[int, ...]]
"""Count, recipients, bytes, delivery times and their buckets."""
_NOTHING: Sums = (0, 0, 0, 0, (0,) * 13)


def _plus(one: Sums, more: Sums) -> Sums:
    buckets = tuple(a + b for a, b in zip(one[4], more[4], strict=True))
    return one[0] + more[0], one[1] + more[1], one[2] + more[2], one[3] + more[3], buckets


def recount(
    events: Iterable[Mapping[str, Any]], families: Iterable[str] = FIELDS
) -> dict[Slot, Sums]:
    """Count enriched events, as ``mail.events`` has them."""
    found: dict[Slot, Sums] = defaultdict(lambda: _NOTHING)
    for event in events:
        kind = event["event_type"]
        if event.get("late") or kind in LOGINS_AND_PROBES:
            continue
        if event.get("direction") != "outbound" or event.get("is_dsn") or event.get("is_probe"):
            continue
        at_ms, received_ms = millis(event["timestamp"]), millis(event["received"])
        if at_ms - received_ms > PANE_MS:
            at_ms = received_ms
        adds = amounts(event)
        for family in families:
            fields = FIELDS[family]
            if all(event.get(field) is not None for field in fields):
                key = tuple(str(event[field]) for field in fields)
                slot = family, key, kind, at_ms // PANE_MS * PANE_MS
                found[slot] = _plus(found[slot], adds)
    return dict(found)


def amounts(event: Mapping[str, Any]) -> Sums:
    """Return what one event adds."""
    recipients = size = took = 0
    kinds = ("delivered", "bounced") if event["source"] == "cpanel" else ("sent",)
    if event["event_type"] in kinds:
        recipients, size = event.get("recipients", 1), event.get("size_bytes", 0)
    buckets = [0] * 13
    told = event.get("delivery_time_ms")
    if event["event_type"] == "delivered" and told is not None:
        took = round(told)
        buckets[sum(told > bound for bound in BOUNDS_MS)] = 1
    return 1, recipients, size, took, tuple(buckets)


def added_up(values: Iterable[bytes]) -> dict[Slot, Sums]:
    """Add up records of ``mail.panes``."""
    found: dict[Slot, Sums] = defaultdict(lambda: _NOTHING)
    for value in values:
        pane = json.loads(value)
        assert pane["length_s"] * 1000 == PANE_MS
        slot = pane["family"], tuple(pane["key"]), pane["event_type"], millis(pane["start"])
        buckets = tuple(pane["delivery_ms_buckets"] or [0] * 13)
        sums = pane["count"], pane["recipients"], pane["bytes"], pane["delivery_ms_sum"], buckets
        found[slot] = _plus(found[slot], sums)
    return dict(found)


def millis(text: str) -> int:
    """Return the time in ms."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
