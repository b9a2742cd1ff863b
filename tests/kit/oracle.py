"""The recount: what the metrics must say, worked out from the posted events in the plainest way.

Written from the contracts alone.  It shares no code with enrich, fold, the family table or the
pane arithmetic: it is slow, and obviously right.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from tests.kit.oracle_senders import accountable

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

WINDOWS = {"1m": MINUTE, "5m": 5 * MINUTE, "1h": HOUR, "24h": 24 * HOUR}

LABELS = {
    "mail_user_events": ("user", "event_type"),
    "mail_user_recipients": ("user",),
    "mail_user_bytes": ("user",),
    "mail_user_auth_method": ("user", "auth_method"),
    "mail_user_destinations": ("user",),
    "mail_user_client_ips": ("user",),
    "mail_ip_events": ("ip", "event_type"),
    "mail_ip_provider_events": ("ip", "provider", "event_type"),
    "mail_failures": ("ip", "provider", "bounce_class", "event_type"),
    "mail_domain_events": ("domain", "event_type"),
    "mail_destination_events": ("domain", "event_type"),
    "mail_destination_failures": ("domain", "bounce_class"),
    "mail_node_events": ("node", "zone", "direction", "event_type"),
    "mail_client_ip_events": ("ip", "direction", "event_type"),
    "mail_user_auth": ("user", "result", "scope"),
    "mail_client_ip_auth": ("ip", "result", "scope"),
    "mail_user_auth_client_ips": ("user", "result"),
    "mail_client_ip_auth_users": ("ip", "result"),
    "mail_route_probes": ("route", "origin", "outcome"),
}
"""Labels of every windowed metric, ``window`` apart; the event type stands last."""

DISTINCT_WINDOWS = ("5m", "1h")
DISTINCT_MOST = 1000
"""Distinct values are counted over these windows, up to this many."""

KEPT_LABELS = frozenset(
    {"event_type", "provider", "bounce_class", "direction", "result", "outcome"}
)
"""Labels of a small closed set of values: they keep theirs when a key is summed under ``_other``."""

FAILURES = ("deferred", "bounced", "rejected")
LOGINS = {"auth_succeeded": "succeeded", "auth_failed": "failed"}
NOT_MAIL = (*LOGINS, "probe")


class Posted(NamedTuple):
    """One event as it was posted: a copy counts as posted too."""

    event: Mapping[str, Any]
    source: str
    received_ms: int
    position: int = 0
    """Its place in the posted batch: part of the identity of an event that has no other."""
    origin: str = "default"


class Series(NamedTuple):
    """One time series without its window: *values* stand as in :data:`LABELS`."""

    metric: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One distinct event and what it is attributed to."""

    source: str
    event_type: str
    event_ms: int
    late: bool
    direction: str
    is_dsn: bool = False
    is_probe: bool = False
    user: str | None = None
    login: str | None = None
    from_domain: str | None = None
    to_domain: str | None = None
    sending_ip: str | None = None
    client_ip: str | None = None
    node: str | None = None
    zone: str = "none"
    scope: str = "none"
    provider: str | None = None
    bounce_class: str | None = None
    recipients: int = 1
    size_bytes: int = 0
    delivery_ms: float | None = None
    queue_ms: float | None = None
    smtp_ms: float | None = None
    auth_method: str = "none"
    origin: str = "default"
    route: str | None = None
    outcome: str | None = None


PROVIDERS = {
    "gmail.com": "google",
    "googlemail.com": "google",
    "outlook.com": "microsoft",
    "hotmail.com": "microsoft",
    "yahoo.com": "yahoo",
    "icloud.com": "apple",
}
"""Recipient domains of the tests' traffic; every other one is ``other``."""

MX_PROVIDERS = {"google.com": "google", "protection.outlook.com": "microsoft"}


class Recount:
    """The distinct ones of some posted events, and every number that follows from them."""

    def __init__(
        self,
        posted: Iterable[Posted],
        classes: Mapping[tuple[int, str], str],
        probes: Collection[str] = (),
    ) -> None:
        """Count *posted*, in the order in which the log holds them.

        Args:
            posted: Every posted event, copies included.
            classes: The bounce class of each (reply code, reply text) that the traffic uses.
            probes: Addresses of the accounts of probes.
        """
        first: dict[object, Posted] = {}
        total = 0
        for total, one in enumerate(posted, 1):  # noqa: B007  the last number is the count
            first.setdefault(identity(one), one)
        self.posted = list(first.values())
        self.copies = total - len(first)
        self.facts = [attribute(one, classes, probes) for one in self.posted]
        self._sums: dict[Series, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._values: dict[Series, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for fact in self.facts:
            if not fact.late:
                pane = fact.event_ms // (10 * SECOND)
                for series, value in distinct_values(fact):
                    self._values[series][value].add(pane)
                for series, amount in contributions(fact):
                    self._sums[series][pane] += amount

    def at(
        self, now_ms: int, windows: Mapping[str, int] = WINDOWS
    ) -> dict[tuple[str, Series], int]:
        """Return every value above zero that ``/metrics`` shows at *now_ms*, by window and series."""
        shown: dict[tuple[str, Series], int] = {}
        for window, length in windows.items():
            first, end = span(length, now_ms)
            for series, panes in self._sums.items():
                value = sum(n for pane, n in panes.items() if first <= pane * 10 * SECOND < end)
                if value:
                    shown[window, series] = value
            if window in DISTINCT_WINDOWS:
                for series, found in self._values.items():
                    number = sum(
                        any(first <= pane * 10 * SECOND < end for pane in panes)
                        for panes in found.values()
                    )
                    if number:
                        shown[window, series] = min(number, DISTINCT_MOST)
        return shown

    def newest(self) -> dict[tuple[str, str], int]:
        """Return the newest event time in ms of customer mail by (sending address, event type)."""
        newest: dict[tuple[str, str], int] = {}
        for fact in self.facts:
            if is_customer(fact) and fact.sending_ip is not None and not fact.late:
                key = fact.sending_ip, fact.event_type
                newest[key] = max(newest.get(key, 0), fact.event_ms)
        return newest

    def newest_success(self) -> dict[tuple[str, str], int]:
        """Return when the newest probe arrived in time, in ms, by (route, origin)."""
        newest: dict[tuple[str, str], int] = {}
        for fact in self.facts:
            if fact.outcome in ("inbox", "junk") and fact.route is not None and not fact.late:
                key = fact.route, fact.origin
                newest[key] = max(newest.get(key, 0), fact.event_ms)
        return newest


def span(length: int, now_ms: int) -> tuple[int, int]:
    """Return the event times ``[first, end)`` that a window of *length* ms shows at *now_ms*.

    It shows the panes of g ms whose start lies in ``(p - length, p]``, p being the start of the
    pane that holds now, g being 10 s up to 5 minutes, 1 minute up to an hour, 5 minutes above.
    """
    g = 10 * SECOND if length <= 5 * MINUTE else MINUTE if length <= HOUR else 5 * MINUTE
    p = now_ms - now_ms % g
    return p - length + g, p + g


def identity(one: Posted) -> object:
    """Return what makes two posted events the same event."""
    event = one.event
    if one.source == "probe":
        return one.source, one.origin, event["token"], event["outcome"]
    if event.get("event_id"):
        return one.source, event["event_id"]
    body = json.dumps(event, sort_keys=True)
    if event.get("queue_id") or event.get("seq"):
        return one.source, body
    return one.source, body, one.position


def attribute(
    one: Posted, classes: Mapping[tuple[int, str], str], probes: Collection[str] = ()
) -> Fact:
    """Return who and what the event is attributed to."""
    event = one.event
    happened = event_time(event["timestamp"])
    late = one.received_ms - happened > 24 * HOUR
    if happened - one.received_ms > 5 * MINUTE:
        happened = one.received_ms
    if one.source == "probe":
        return probed(one, happened, late=late)
    direction = event.get("direction") or {"zonemta": "outbound", "haraka": "inbound"}[one.source]
    sender = event.get("from_address", event.get("from"))
    is_dsn = bool(event.get("is_dsn")) or sender in ("", "<>") or event.get("zone") == "bounces"
    bounce_class = None
    if event["event_type"] in FAILURES:
        bounce_class = classes.get((event["response_code"], event["response_message"]))
    return Fact(
        source=one.source,
        event_type=event["event_type"],
        event_ms=happened,
        late=late,
        direction=direction,
        is_dsn=is_dsn,
        is_probe=bool({accountable(event), sender, event.get("to")} & set(probes)),
        user=who(event, direction, is_dsn=is_dsn),
        login=event.get("login"),
        from_domain=event.get("from_domain") or domain_of(sender),
        to_domain=event.get("to_domain"),
        sending_ip=event.get("sending_ip"),
        client_ip=event.get("client_ip", event.get("source_ip")),
        node=event.get("mta_node"),
        zone=event.get("zone", "none"),
        scope=event.get("auth_scope", "none"),
        provider=provider_of(event.get("mx_host"), event.get("to_domain")),
        bounce_class=bounce_class,
        recipients=event.get("recipients", 1),
        size_bytes=event.get("size_bytes", 0),
        delivery_ms=event.get("delivery_time_ms"),
        queue_ms=event.get("queue_time_ms"),
        smtp_ms=event.get("smtp_time_ms"),
        auth_method=event.get("auth_method", "none"),
    )


def probed(one: Posted, happened: int, *, late: bool) -> Fact:
    """Return what an outcome of a probe is: no mail, and nobody's."""
    event = one.event
    return Fact(
        source=one.source,
        event_type="probe",
        event_ms=happened,
        late=late,
        direction="none",
        delivery_ms=event.get("roundtrip_ms"),
        origin=one.origin,
        route=event["route"],
        outcome=event["outcome"],
    )


def event_time(timestamp: str | float) -> int:
    """Return the event time in ms of an RFC 3339 time or of seconds since the epoch."""
    if isinstance(timestamp, str):
        return round(datetime.fromisoformat(timestamp).timestamp() * SECOND)
    return round(timestamp * SECOND)


def who(event: Mapping[str, Any], direction: str, *, is_dsn: bool) -> str | None:
    """Return who logged in, or who is accountable for customer mail."""
    if event["event_type"] in LOGINS:
        return event.get("user")
    return accountable(event) if direction == "outbound" and not is_dsn else None


def domain_of(address: str | None) -> str | None:
    """Return what stands behind the ``@``."""
    return address.rpartition("@")[2] if address and "@" in address else None


def provider_of(mx_host: str | None, to_domain: str | None) -> str | None:
    """Return whose mailbox it was for: by the MX host, else by the recipient's domain."""
    for suffix, provider in MX_PROVIDERS.items():
        if mx_host and mx_host.endswith("." + suffix):
            return provider
    if to_domain is None and mx_host is None:
        return None
    return PROVIDERS.get(to_domain or "", "other")


def is_customer(fact: Fact) -> bool:
    """Tell customer mail: outbound, neither a DSN nor a probe."""
    outbound = fact.direction == "outbound" and not fact.is_dsn and not fact.is_probe
    return outbound and fact.event_type not in NOT_MAIL


def contributions(fact: Fact) -> Iterator[tuple[Series, int]]:
    """Yield what one event adds, and to which series; an absent part of a key adds nothing."""
    kind = fact.event_type
    if kind in LOGINS:
        user, result = fact.user or "_unknown", LOGINS[kind]
        yield Series("mail_user_auth", (user, result, fact.scope)), 1
        if fact.client_ip is not None:
            yield Series("mail_client_ip_auth", (fact.client_ip, result, fact.scope)), 1
    if fact.route is not None and fact.outcome is not None:
        yield Series("mail_route_probes", (fact.route, fact.origin, fact.outcome)), 1
    if kind in NOT_MAIL:
        return
    if is_customer(fact):
        yield from customer_contributions(fact)
    if fact.node is not None:
        values = fact.node, fact.zone, fact.direction, kind
        yield Series("mail_node_events", values), 1
    if fact.client_ip is not None:
        yield Series("mail_client_ip_events", (fact.client_ip, fact.direction, kind)), 1


def distinct_values(fact: Fact) -> Iterator[tuple[Series, str]]:
    """Yield the values that one event adds to distinct counts, and to which."""
    if fact.event_type in LOGINS and fact.client_ip is not None:
        result = LOGINS[fact.event_type]
        yield Series("mail_user_auth_client_ips", (fact.user or "_unknown", result)), fact.client_ip
        name = fact.user or fact.login
        if name is not None:
            yield Series("mail_client_ip_auth_users", (fact.client_ip, result)), name
    if is_customer(fact) and fact.user is not None:
        if fact.to_domain is not None:
            yield Series("mail_user_destinations", (fact.user,)), fact.to_domain
        if fact.client_ip is not None:
            yield Series("mail_user_client_ips", (fact.user,)), fact.client_ip


def customer_contributions(fact: Fact) -> Iterator[tuple[Series, int]]:
    """Yield what one event of customer mail adds."""
    kind = fact.event_type
    if fact.user is not None:
        yield Series("mail_user_events", (fact.user, kind)), 1
        if kind == "sent":
            yield Series("mail_user_recipients", (fact.user,)), fact.recipients
            yield Series("mail_user_bytes", (fact.user,)), fact.size_bytes
            yield Series("mail_user_auth_method", (fact.user, fact.auth_method)), 1
    if fact.sending_ip is not None:
        yield Series("mail_ip_events", (fact.sending_ip, kind)), 1
        if fact.provider is not None:
            yield Series("mail_ip_provider_events", (fact.sending_ip, fact.provider, kind)), 1
    if fact.from_domain is not None:
        yield Series("mail_domain_events", (fact.from_domain, kind)), 1
    if fact.to_domain is not None:
        yield Series("mail_destination_events", (fact.to_domain, kind)), 1
    if kind in FAILURES and fact.bounce_class is not None:
        if fact.provider is not None:
            ip = "none" if fact.sending_ip is None else fact.sending_ip
            yield Series("mail_failures", (ip, fact.provider, fact.bounce_class, kind)), 1
        if fact.to_domain is not None:
            yield Series("mail_destination_failures", (fact.to_domain, fact.bounce_class)), 1
