"""What the simulated ZoneMTA nodes answer to who asks them, by the traffic that they reported.  Pure.

The nodes share one database, so they have one queue; each counts its own deliveries.  Paths and
shapes are those of ZoneMTA's HTTP API (``/counter/zone/``, ``/queued/...``, ``/blacklist``).
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from mailstream.simulation.traffic import RETRY_MINUTES, SimulatedEvent
from pipeline.core.pane import HOUR_MS, MINUTE_MS
from pipeline.core.timestamp import rfc3339

ZONES: Final = ("bounces", "bulk", "default")
MOST_BLACKLISTED: Final = 200
BLACKLISTED_MS: Final = 6 * HOUR_MS
"""How long ZoneMTA avoids an address of its own for a domain."""
LONGEST_MS: Final = (sum(RETRY_MINUTES) + len(RETRY_MINUTES) * 10) * MINUTE_MS
"""No message waits longer: all waits between attempts, and reports that come late."""

_STATUS: Final = {"delivered": "delivered", "bounced": "rejected", "deferred": "deferred"}
"""ZoneMTA's word for each outcome."""
_LISTS: Final = {"queued": "active", "deferred": "deferred"}

Entry = tuple[str, str]
"""Queue id and number of the recipient."""


class _Refusal(NamedTuple):
    """Why an address is avoided."""

    at_ms: int
    text: str
    entry: Entry


class Queue:
    """The queue of all nodes, and what each did."""

    def __init__(self) -> None:
        """Begin empty."""
        self._active: Counter[str] = Counter()
        self._deferred: dict[str, dict[Entry, int]] = {zone: {} for zone in ZONES}
        """By zone, when each message that waits for its next attempt was created."""
        self._statuses: Counter[tuple[str, str, str]] = Counter()
        """Outcomes by node, zone and status."""
        self._taken: Counter[str] = Counter()
        """Messages by node."""
        self._blacklist: dict[tuple[str, str], _Refusal] = {}
        """By our address and the domain that refused it, the newest last."""

    def take(self, posted: SimulatedEvent) -> None:
        """Heed what a node reported; what it repeats changes nothing."""
        event = posted.event
        zone = event.get("zone")
        if posted.repeat or zone is None:
            return
        kind, node = event["event_type"], event["mta_node"]
        if kind == "sent":
            self._active[zone] += event["recipients"]
            self._taken[node] += 1
            return
        entry = event["queue_id"], event["seq"]
        if event["attempt"] == 1:
            self._active[zone] -= 1
        if kind == "deferred":
            created_ms = posted.event_ms - event["queue_time_ms"]
            self._deferred[zone].setdefault(entry, created_ms)
        else:
            self._deferred[zone].pop(entry, None)
        self._statuses[node, zone, _STATUS[kind]] += 1
        self._avoid(posted, entry)
        self._forget(posted.at_ms)

    def answer(self, node: str, path: str) -> str | dict[str, Any] | None:
        """Return what *node* answers to a GET of *path*: text, or an object; None: it has no such path."""
        found: str | dict[str, Any] | None = None
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["counter", "zone"]:
                found = self._counters()
            case ["queued", ("queued" | "deferred") as state, zone]:
                found = self._listing(zone, state)
            case ["blacklist"]:
                found = self._blacklisted()
            case ["suppressionlist"]:
                found = {"suppressed": []}
            case ["skipdomains", _]:
                found = {"skipDomains": False}
            case ["metrics"]:
                found = self._metrics(node)
        return found

    def _avoid(self, posted: SimulatedEvent, entry: Entry) -> None:
        """Blacklist the pair of an attempt that was refused because of the address it came from."""
        event = posted.event
        text = event.get("response_message", "")
        if "block" in text.lower() and event["event_type"] != "delivered":
            pair = event["sending_ip"], event["to_domain"]
            self._blacklist.pop(pair, None)
            self._blacklist[pair] = _Refusal(posted.event_ms, text, entry)

    def _forget(self, now_ms: int) -> None:
        """Drop what is over: the front of what is ordered by time, or nearly so.

        A message whose outcome was reported before a deferral of its own would wait for ever.
        """
        for waiting in self._deferred.values():
            while waiting and now_ms - next(iter(waiting.values())) > LONGEST_MS:
                del waiting[next(iter(waiting))]
        while self._blacklist:
            pair, found = next(iter(self._blacklist.items()))
            if now_ms - found.at_ms < BLACKLISTED_MS and len(self._blacklist) <= MOST_BLACKLISTED:
                break
            del self._blacklist[pair]

    def _sizes(self) -> dict[str, dict[str, int]]:
        # An outcome may be reported before the message: for that moment there is one too few.
        return {
            "active": {zone: max(0, self._active[zone]) for zone in ZONES},
            "deferred": {zone: len(self._deferred[zone]) for zone in ZONES},
        }

    def _counters(self) -> dict[str, Any]:
        found: dict[str, Any] = {"zone": "all"}
        for state, sizes in self._sizes().items():
            entries = [{"key": zone, "value": size} for zone, size in sizes.items()]
            found[state] = {"entries": entries, "rows": sum(sizes.values())}
        return found

    def _listing(self, zone: str, state: str) -> dict[str, Any]:
        """Return the oldest message of a zone: ZoneMTA's own list with a page of one."""
        waiting = self._deferred.get(zone, {}) if state == "deferred" else {}
        listed = [
            {"id": queue_id, "seq": seq, "zone": zone, "created": rfc3339(created_ms)}
            for (queue_id, seq), created_ms in islice(waiting.items(), 1)
        ]
        return {"zone": zone, "type": state, "list": listed}

    def _blacklisted(self) -> dict[str, Any]:
        return {
            "list": [
                {
                    "id": entry[0],
                    "seq": entry[1],
                    "address": ip,
                    "domain": domain,
                    "response": text,
                    "created": at_ms,
                }
                for (ip, domain), (at_ms, text, entry) in self._blacklist.items()
            ]
        }

    def _metrics(self, node: str) -> str:
        sizes = {state: sum(found.values()) for state, found in self._sizes().items()}
        lines = [
            "# HELP zonemta_delivery_status Delivery status",
            "# TYPE zonemta_delivery_status counter",
        ]
        lines += [
            f'zonemta_delivery_status{{status="{status}",zone="{zone}"}} {count}'
            for (of, zone, status), count in sorted(self._statuses.items())
            if of == node
        ]
        lines += [
            "# HELP zonemta_message_push Messages pushed to queue",
            "# TYPE zonemta_message_push counter",
            f'zonemta_message_push{{result="success"}} {self._taken[node]}',
            "# HELP zonemta_queue_size Current size of the queue",
            "# TYPE zonemta_queue_size gauge",
            *(
                f'zonemta_queue_size{{type="{word}"}} {sizes[state]}'
                for word, state in _LISTS.items()
            ),
            "# HELP zonemta_blacklisted Blacklisted addresses",
            "# TYPE zonemta_blacklisted gauge",
            f"zonemta_blacklisted {len(self._blacklist)}",
        ]
        return "\n".join(lines) + "\n"
