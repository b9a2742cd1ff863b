"""A cPanel server's mail log: delivery attempts of its accounts, as rows of ``emailtrack_search``.

Pure, seeded, endless if asked.  One row per attempt; deferred mail is tried again as Exim does.
After a while the website of one account is hacked, and its scripts flood.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, NamedTuple

from mailstream.simulation.arrivals import arrivals
from mailstream.simulation.replies import RECEIVERS, Receiver, Reply
from mailstream.simulation.world import Account, Choice, world, zipf

ACCOUNTS: Final = 40
RETRY_S: Final = (900, 900, 900, 1800, 3600)
"""Waits between attempts; Exim goes on for days, the simulation gives up here."""
INBOUND: Final = 0.3
FLOOD_SHARE: Final = 0.6
"""Messages of the hacked account, as a share of all others."""

_RECEIVERS: Final = Choice(RECEIVERS, [receiver.share for receiver in RECEIVERS])
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MAX_USER: Final = 16
_MAILBOXES: Final = 24 * ACCOUNTS

Row = dict[str, Any]


class Site(NamedTuple):
    """One account of the server."""

    user: str
    domain: str
    mailboxes: tuple[Account, ...]


@dataclass(frozen=True, slots=True)
class HostingPlan:
    """What to simulate; times are ms since the epoch."""

    seed: int
    start_ms: int
    server: str
    """Its name: another server has other accounts."""
    rate: float = 5.0
    """Messages per second, mean over a day, without the flood."""
    hacked_after_ms: int | None = None
    """When the flood begins, after the start; None: never."""


def sites(seed: int, server: str) -> tuple[Site, ...]:
    """Return the accounts of a server, the most active first."""
    by_domain: dict[str, list[Account]] = {}
    for account in world(_seed(seed, server), _MAILBOXES).accounts.items:
        by_domain.setdefault(account.domain, []).append(account)
    found: dict[str, Site] = {}
    for domain, mailboxes in by_domain.items():
        user = domain.partition(".")[0].replace("-", "")[:_MAX_USER]
        found.setdefault(user, Site(user, domain, tuple(mailboxes)))
    return tuple(found.values())[:ACCOUNTS]


def hacked_site(seed: int, server: str) -> Site:
    """Return the account whose website is hacked: a quiet one."""
    return sites(seed, server)[ACCOUNTS // 2]


def rows(plan: HostingPlan) -> Iterator[Row]:
    """Return the rows of *plan*, ordered by ``actionunixtime``; the same plan gives the same rows.

    Raises:
        ValueError: The rate is not positive.
    """
    if plan.rate <= 0:
        raise ValueError(f"the rate must be positive, not {plan.rate}")
    return _Log(plan).run()


def _seed(seed: int, server: str) -> int:
    return random.Random(f"server {seed} {server}").getrandbits(32)  # noqa: S311  as below


class _Log:
    def __init__(self, plan: HostingPlan) -> None:
        self._plan = plan
        found = sites(plan.seed, plan.server)
        self._sites = Choice(found, zipf(len(found)))
        self._hacked = hacked_site(plan.seed, plan.server)
        self._world = world(_seed(plan.seed, plan.server), _MAILBOXES)
        # a simulation must be repeatable
        self._rng = random.Random(f"hosting {plan.seed} {plan.server}")  # noqa: S311
        self._serial = count()
        self._queue: list[tuple[int, int, Row]] = []

    def run(self) -> Iterator[Row]:
        plan, rng = self._plan, self._rng
        for now_ms in arrivals(rng, plan.start_ms, math.inf, plan.rate):
            now_s = now_ms // 1000
            while self._queue and self._queue[0][0] < now_s:
                yield heapq.heappop(self._queue)[2]
            site = self._sites.pick(rng)
            if rng.random() < INBOUND:
                self._inbound(now_s, site)
            else:
                self._outbound(now_s, site)
            after_ms = plan.hacked_after_ms
            is_hacked = after_ms is not None and now_ms >= plan.start_ms + after_ms
            if is_hacked and rng.random() < FLOOD_SHARE:
                self._outbound(now_s, self._hacked, flood=True)

    def _message(self, now_s: int, domain: str) -> Row:
        """Return what all rows of one message share."""
        rng = self._rng
        return {
            "msgid": f"{_base62(now_s, 6)}-{_base62(rng.getrandbits(60), 11)}-{_base62(rng.getrandbits(20), 4)}",
            "domain": domain,
            "sendunixtime": now_s,
            "size": int(rng.lognormvariate(9.4, 1.2)) + 600,
        }

    def _outbound(self, now_s: int, site: Site, *, flood: bool = False) -> None:
        rng = self._rng
        mailbox = rng.choice(site.mailboxes)
        receiver = _RECEIVERS.pick(rng)
        tail = self._world.tail_domains
        domain = rng.choice(receiver.domains) if receiver.domains else tail.pick(rng)
        sender = f"{site.user}@{self._plan.server}" if flood else mailbox.address
        recipient = f"recipient{rng.getrandbits(24):06x}@{domain}"
        row = {
            **self._message(now_s, site.domain),
            "sender": sender,
            "email": sender,
            "user": site.user,
            "recipient": recipient,
            "deliveredto": recipient,
            "deliveryuser": "-remote-",
            "deliverydomain": domain,
            "senderhost": "localhost" if flood else "",
            "senderip": "127.0.0.1" if flood else rng.choice(mailbox.client_ips),
            "senderauth": "localuser" if flood else "dovecot_login",
            "spamscore": "",
            "router": "dkim_lookuphost",
            "transport": "dkim_remote_smtp",
            "transport_is_remote": 1,
            "host": receiver.mx.replace("{domain}", domain),
            "ip": f"198.18.{rng.getrandbits(8)}.{rng.getrandbits(8)}",
        }
        self._attempts(now_s, row, receiver, flood=flood)

    def _attempts(self, now_s: int, row: Row, receiver: Receiver, *, flood: bool) -> None:
        """Queue the attempts at one recipient, with the waits between them."""
        rng = self._rng
        for wait_s in (*RETRY_S, 0):
            now_s += 1 + int(rng.lognormvariate(0, 0.9))
            draw = rng.random()
            deferral, bounce = (0.3, 0.35) if flood else (receiver.deferral, receiver.bounce)
            if draw < deferral and wait_s:
                kind, message = "defer", self._reply(receiver.deferred, row)
            elif draw < deferral + bounce:
                kind, message = "failure", self._reply(receiver.bounced, row)
            else:
                kind, message = "success", "Accepted"
            self._write({"type": kind, **row, "actionunixtime": now_s, "message": message})
            if kind != "defer":
                break
            now_s += wait_s

    def _reply(self, replies: tuple[Reply, ...], row: Row) -> str:
        """Return what Exim writes of a reply: on one line, after the command that it answered."""
        rng = self._rng
        reply = rng.choice(replies)
        text = reply.text.format(
            ip="203.0.113.80",
            to=row["recipient"],
            id=f"{rng.getrandbits(60):015x}",
            message_id=f"<{row['msgid']}@{row['domain']}>",
            size=row["size"],
            peer=row["ip"],
            domain=row["deliverydomain"],
        ).replace("\n", "\\n")
        if not reply.connected:
            return text
        return f"SMTP error from remote mail server after RCPT TO:<{row['recipient']}>: {text}"

    def _inbound(self, now_s: int, site: Site) -> None:
        rng = self._rng
        mailbox = rng.choice(site.mailboxes)
        origin = self._world.tail_domains.pick(rng)
        sender = f"sender{rng.getrandbits(20):05x}@{origin}"
        row = {
            **self._message(now_s, ""),
            "sender": sender,
            "email": sender,
            "user": "-remote-",
            "recipient": mailbox.address,
            "deliveredto": mailbox.address,
            "deliveryuser": site.user,
            "deliverydomain": site.domain,
            "senderhost": f"mail.{origin}",
            "senderip": rng.choice(self._world.outside_ips),
            "senderauth": "",
            "spamscore": f"{rng.uniform(-1, 6):.1f}",
            "router": "virtual_user",
            "transport": "dovecot_virtual_delivery",
            "transport_is_remote": 0,
            "host": "localhost",
            "ip": "127.0.0.1",
        }
        kind, message = "success", "Accepted"
        if rng.random() < 0.1:
            kind, message = "failure", "550 No such user here"
        self._write({"type": kind, **row, "actionunixtime": now_s + 1, "message": message})

    def _write(self, row: Row) -> None:
        heapq.heappush(self._queue, (row["actionunixtime"], next(self._serial), row))


def _base62(number: int, digits: int) -> str:
    found = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        found = _BASE62[digit] + found
    return found
