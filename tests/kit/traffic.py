"""Seeded mail traffic: what MTAs would post, with the shape of real senders (Zipf) and real replies.

:func:`plain` is outbound mail of about 400 bytes an event, quick to make by the million;
:func:`varied` has every kind of event that the contracts tell apart.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import accumulate
from typing import Any, NamedTuple

from tests.kit.oracle import HOUR, MINUTE, SECOND

Event = dict[str, Any]


class Reply(NamedTuple):
    """What a receiving server said, and the class in which it belongs."""

    code: int
    text: str
    bounce_class: str = ""


REPLIES: Mapping[str, Sequence[Reply]] = {
    "delivered": (Reply(250, "2.0.0 OK accepted for delivery"),),
    "bounced": (
        Reply(
            550,
            "5.1.1 The email account that you tried to reach does not exist",
            "invalid_recipient",
        ),
        Reply(552, "5.2.2 Mailbox full, quota exceeded", "mailbox_full"),
        Reply(554, "5.7.1 Message rejected as spam by policy", "spam_content"),
    ),
    "deferred": (
        Reply(421, "4.7.0 Try again later, rate limited", "rate_limited"),
        Reply(451, "4.3.0 Temporary local problem", "server_error"),
        Reply(450, "4.2.1 The user is receiving mail too quickly", "rate_limited"),
    ),
    "rejected": (
        Reply(
            550, "5.7.26 Unauthenticated email is not accepted due to DMARC policy", "auth_failed"
        ),
        Reply(553, "5.7.1 Sender address rejected: blocked using blocklist", "ip_blocked"),
    ),
}

CLASSES = {
    (reply.code, reply.text): reply.bounce_class
    for replies in REPLIES.values()
    for reply in replies
    if reply.bounce_class
}
"""The bounce class of each failed reply, for the recount."""

DESTINATIONS = (
    "gmail.com",
    "outlook.com",
    "yahoo.com",
    "icloud.com",
    "hotmail.com",
    *(f"corp{number}.example.com" for number in range(195)),
)


@dataclass(frozen=True)
class Shape:
    """How many of each there are; the first of each are the busiest."""

    users: int = 5000
    user_domains: int = 300
    ips: int = 50
    nodes: int = 12
    clients: int = 400


class Zipf:
    """Numbers below *n*, the lower the likelier."""

    def __init__(self, rnd: random.Random, n: int, exponent: float = 1.05) -> None:
        self._random = rnd.random
        self._steps = list(accumulate(1 / rank**exponent for rank in range(1, n + 1)))

    def __call__(self) -> int:
        return bisect(self._steps, self._random() * self._steps[-1])


class Drawn(NamedTuple):
    """One event of :func:`plain`: what its raw record is made of."""

    event_id: str
    message_id: str
    body: bytes


def plain(
    count: int, *, seed: int, first_ms: int, last_ms: int, shape: Shape = Shape()
) -> Iterator[Drawn]:
    """Yield *count* outbound events in order of time, evenly from *first_ms* to *last_ms*."""
    rnd = random.Random(seed)
    user, destination = Zipf(rnd, shape.users), Zipf(rnd, len(DESTINATIONS))
    address = Zipf(rnd, shape.ips, 0.7)
    kinds = rnd.choices(("delivered", "bounced", "deferred", "rejected"), (88, 5, 5, 2), k=count)
    second, prefix = -1, ""
    for number, kind in enumerate(kinds):
        at = first_ms + (last_ms - first_ms) * number // max(1, count)
        if at // SECOND != second:
            second = at // SECOND
            prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        reply = rnd.choice(REPLIES[kind])
        sender = user()
        domain = f"dom{sender % shape.user_domains}.example.org"
        drawn = f"{rnd.getrandbits(128):032x}"
        event_id = f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-8{drawn[17:20]}-{drawn[20:]}"
        message_id = f"<{drawn[:20]}@mta.example.net>"
        body = (
            f'{{"event_id":"{event_id}","timestamp":"{prefix}.{at % SECOND:03d}Z",'
            f'"event_type":"{kind}","message_id":"{message_id}",'
            f'"from_user":"user{sender}@{domain}","from_domain":"{domain}",'
            f'"to_domain":"{DESTINATIONS[destination()]}","sending_ip":"10.1.1.{address()}",'
            f'"mta_node":"mta-{number % shape.nodes:02d}","response_code":{reply.code},'
            f'"response_message":"{reply.text}",'
            f'"delivery_time_ms":{int(20 / (rnd.random() + 0.001))}}}'
        )
        yield Drawn(event_id, message_id, body.encode())


class Varied:
    """Traffic with every kind of event that the contracts tell apart.

    Args:
        seed: The same seed gives the same events.
        now_ms: The time around which they happen; may be moved on.
        spread_ms: From the first to the last of them.
        ahead_ms: The last of them is so much later than *now_ms*: clocks differ.  Beside these, a
            few are more than a day old and a few are from the far future.
    """

    def __init__(
        self,
        *,
        seed: int,
        now_ms: int,
        spread_ms: int = 50 * MINUTE,
        ahead_ms: int = 0,
        shape: Shape = Shape(2000, 150),
    ) -> None:
        self.now_ms = now_ms
        self._rnd = rnd = random.Random(seed)
        self._seed, self._spread_ms, self._ahead_ms = seed, spread_ms, ahead_ms
        self._shape = shape
        self._user, self._client = Zipf(rnd, shape.users), Zipf(rnd, shape.clients)
        self._ip, self._destination = Zipf(rnd, shape.ips, 0.7), Zipf(rnd, len(DESTINATIONS))
        self._made = 0

    def zonemta(self) -> Event:
        """Return one event as a ZoneMTA plugin posts it."""
        rnd = self._rnd
        kind = rnd.choices(
            (
                *("sent", "delivered", "bounced", "deferred", "rejected"),
                *("expired", "complained", "bounced_late"),
            ),
            (20, 65, 4, 5, 3, 1, 1, 1),
        )[0]
        event = self._named(kind)
        self._sender(event)
        event["mta_node"] = f"mta-{self._made % self._shape.nodes:02d}"
        if rnd.random() < 0.7:
            event.setdefault("zone", rnd.choice(("default", "bulk", "transactional")))
        if kind == "sent":
            event["recipients"] = rnd.choice((1, 1, 1, 2, 5, 40))
            event["size_bytes"] = rnd.randrange(800, 200_000)
            event["client_ip"] = f"192.0.2.{self._client() % 250}"
            if self._made % 3:
                event["auth_method"] = ("PLAIN", "LOGIN")[self._made % 2]
        else:
            self._outcome(event, kind)
        if rnd.random() < 0.03:
            event["direction"] = rnd.choice(("internal", "local", "inbound"))
        return event

    def haraka(self) -> Event:
        """Return one event as a Haraka plugin posts it: inbound mail."""
        kind = self._rnd.choices(("received", "rejected"), (8, 2))[0]
        event = self._named(kind)
        event["mta_node"] = f"mx-{self._made % 3}"
        event["hostname"] = "host.elsewhere.example"
        alias = self._rnd.choice(("client_ip", "source_ip"))
        event[alias] = f"198.51.100.{self._client() % 250}"
        event["from"] = f"someone{self._user()}@elsewhere.example"
        event["to_domain"] = f"dom{self._user() % 20}.example.org"
        if kind == "rejected":
            self._reply(event, kind)
        return event

    def _named(self, kind: str) -> Event:
        self._made += 1
        number = self._made
        queue_id = f"q{self._seed:x}{number // 3:08x}"
        event: Event = {"event_type": kind, "timestamp": self._time()}
        event["message_id"] = f"<{queue_id}@mta.example.net>"
        event["queue_id"] = queue_id
        event["seq"] = f"{number % 3 + 1:03d}"
        if self._rnd.random() < 0.9:
            event["event_id"] = f"{self._seed:x}-{number:09x}"
        return event

    def _time(self) -> str | float:
        rnd = self._rnd
        at = self.now_ms + self._ahead_ms - rnd.randrange(self._spread_ms)
        chance = rnd.random()
        if chance < 0.002:
            at = self.now_ms - rnd.randrange(25 * HOUR, 60 * HOUR)
        elif chance < 0.004:
            at = self.now_ms + rnd.randrange(10 * MINUTE, 3 * HOUR)
        form = rnd.randrange(4)
        if form == 0:
            return at / SECOND
        zone = timezone(timedelta(hours=rnd.choice((-7, 2, 5)))) if form == 1 else UTC
        text = datetime.fromtimestamp(at // SECOND, zone).replace(microsecond=at % SECOND * 1000)
        return text.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _sender(self, event: Event) -> None:
        rnd = self._rnd
        number = self._user()
        domain = f"dom{number % self._shape.user_domains}.example.org"
        event["from_domain"] = domain
        chance = rnd.random()
        if chance < 0.03:
            event["from_address"] = ""
            del event["from_domain"]
        elif chance < 0.05:
            event["zone"] = "bounces"
        elif chance < 0.10:
            event["user"] = f"login{number}@{domain}"
        elif chance < 0.13:
            event["user"] = f"login{number}@{domain}[app-{number % 4}]"
        elif chance < 0.18:
            event["from_user"] = f"user{number}"
        elif chance < 0.20:
            event["from_user"] = f"SRS0=Ab1=XY={domain}=user{number}@forward.example"
            event["from_domain"] = "forward.example"
        elif chance < 0.22:
            event["from_user"] = f"prvs=123456abcd=user{number}@{domain}"
        elif chance < 0.24:
            event["from_user"] = f"bounces+rcpt=gmail.com@{domain}"
        elif chance < 0.27:
            event["from"] = f"user{number}@{domain}"
        else:
            event["from_user"] = f"user{number}@{domain}"

    def _outcome(self, event: Event, kind: str) -> None:
        rnd = self._rnd
        event["to_domain"] = DESTINATIONS[self._destination()]
        if rnd.random() < 0.1:
            event["mx_host"] = rnd.choice(
                ("alt1.aspmx.l.google.com", "corp1.mail.protection.outlook.com", "mx.corp.example")
            )
        if kind not in ("rejected", "expired") or rnd.random() < 0.5:
            event["sending_ip"] = f"10.1.1.{self._ip()}"
        self._reply(event, kind)
        event["attempt"] = rnd.choice((1, 1, 1, 2, 3))

    def _reply(self, event: Event, kind: str) -> None:
        replies = REPLIES.get(kind)
        if replies is not None:
            reply = self._rnd.choice(replies)
            event["response_code"], event["response_message"] = reply.code, reply.text
            if kind == "delivered":
                waited = 20 / (self._rnd.random() + 0.001)
                event["delivery_time_ms"] = int(waited)
                if self._made % 2:
                    event["queue_time_ms"] = 300 * int(waited)
                    event["smtp_time_ms"] = int(waited) // 2


def with_repeats(events: Sequence[Event], repeats: int, seed: int) -> list[Event]:
    """Return *events* with so many of them posted once more, some a little and some much later."""
    rnd = random.Random(seed)
    order = [(float(place), event) for place, event in enumerate(events)]
    for place in rnd.sample(range(len(events)), repeats):
        later = rnd.choice((1, 50, 5_000, 100_000)) * rnd.random()
        order.append((place + later, events[place]))
    return [event for _, event in sorted(order, key=lambda one: one[0])]
