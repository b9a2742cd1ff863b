"""Simulated days in front of the detector: events to 5 min panes, counted one by one, and planted faults."""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mailstream.simulation.traffic import SimulatedEvent, compromised_user, traffic
from mailstream.simulation.world import sending_ips, world
from pipeline.detect.accounts import AccountDetector
from pipeline.detect.alerts import Alert, Facts, Kind
from pipeline.detect.blocks import Addresses, BlockDetector
from pipeline.detect.history import Accounts
from pipeline.detect.rules import BLOCK_CLASSES, THROTTLE_CLASSES
from pipeline.enrich.classify import Classifier, Reply
from pipeline.enrich.providers import provider_of

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
PANE = 5 * MINUTE
GRACE = MINUTE
START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
LOOK = 30 * SECOND
"""How often the open pane is looked at."""
OUTCOMES = ("delivered", "bounced", "deferred")


class Raised(NamedTuple):
    """An alert and the time at which it was raised."""

    at_ms: int
    alert: Alert


@dataclass
class Pane:
    """What happened in one 5 min pane."""

    recipients: Counter[str] = field(default_factory=Counter)
    destinations: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    client_ips: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    addresses: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def accounts(self) -> Accounts:
        users = sorted({*self.recipients, *self.destinations})

        def column(values: Iterable[int]) -> Any:
            return np.fromiter(values, np.int64, len(users))

        return Accounts(
            users,
            column(self.recipients[user] for user in users),
            column(len(self.destinations.get(user, ())) for user in users),
            column(self.outcomes[user, "delivered"] for user in users),
            column(self.outcomes[user, "bounced"] for user in users),
        )

    def by_address(self) -> Addresses:
        keys = sorted({key[:2] for key in self.addresses})
        columns = [
            np.array([self.addresses[(*key, what)] for key in keys], np.int64)
            for what in ("attempts", "blocked", "throttled")
        ]
        return Addresses(keys, *columns)

    def known(self, key: tuple[str, ...]) -> Facts:
        if len(key) > 1:
            return Facts()
        return Facts(
            destinations=tuple(sorted(self.destinations[key[0]])),
            client_ips=tuple(sorted(self.client_ips[key[0]])),
        )


def class_of(classifier: Classifier, event: dict[str, Any], provider: str) -> str:
    """Return the bounce class of what *provider* said."""
    return classifier.classify(
        Reply(
            event.get("response_code"),
            event.get("enhanced_status"),
            event.get("response_message", event.get("error_message")),
            event.get("error_code"),
            provider,
        )
    ).bounce_class


class Watch:
    """Both detectors, fed with simulated events in the order in which they are posted."""

    def __init__(self) -> None:
        self.accounts = AccountDetector()
        self.blocks = BlockDetector()
        self.raised: list[Raised] = []
        self.closed: list[tuple[int, Pane]] = []
        self._panes: dict[int, Pane] = {}
        self._next_look = 0
        self._classifier = Classifier()

    def run(self, events: Iterable[SimulatedEvent]) -> list[Raised]:
        """Return the alerts of all *events*."""
        for one in events:
            if one.at_ms >= self._next_look:
                self.look(one.at_ms)
            if one.source == "zonemta" and not one.repeat:
                self._count(one.event, self._panes.setdefault(one.event_ms // PANE, Pane()))
        return self.raised

    def look(self, now_ms: int) -> None:
        """Close the panes that are over, and look at the open one."""
        self._next_look = now_ms + LOOK
        for number in sorted(self._panes):
            if (number + 1) * PANE + GRACE <= now_ms:
                pane, start = self._panes.pop(number), number * PANE
                if self.closed and start <= self.closed[-1][0]:  # what came late for a closed pane
                    self.accounts.learn(start, pane.accounts())
                    continue
                self.closed.append((start, pane))
                if self.closed[0][0] < start - DAY:
                    del self.closed[0]
                self._raise(now_ms, self.accounts.close(start, pane.accounts(), pane.known))
                self._raise(now_ms, self.blocks.close(start, pane.by_address(), pane.known))
            elif number * PANE <= now_ms:
                pane, start = self._panes[number], number * PANE
                self._raise(now_ms, self.accounts.look(start, pane.accounts(), pane.known))
                self._raise(now_ms, self.blocks.look(start, pane.by_address(), pane.known))

    def restart(self) -> None:
        """Begin anew with what the log of alerts and the closed panes of a day hold."""
        self.accounts, self.blocks = AccountDetector(), BlockDetector()
        alerts = [raised.alert for raised in self.raised]
        self.accounts.restore(alerts)
        self.blocks.restore(alerts)
        for start, pane in self.closed:
            self.accounts.learn(start, pane.accounts())
            self.blocks.learn(start, pane.by_address())

    def _raise(self, now_ms: int, alerts: Iterable[Alert]) -> None:
        self.raised.extend(Raised(now_ms, alert) for alert in alerts)

    def _count(self, event: dict[str, Any], pane: Pane) -> None:
        if event.get("from_address") == "":
            return
        user, kind = event["from_address"], event["event_type"]
        pane.client_ips[user].add(event["client_ip"])
        if kind == "sent":
            pane.recipients[user] += event["recipients"]
        if "to_domain" in event:
            pane.destinations[user].add(event["to_domain"])
            pane.outcomes[user, kind] += 1
        if kind in OUTCOMES and "sending_ip" in event:
            key = event["sending_ip"], provider_of(event["to_domain"])
            pane.addresses[(*key, "attempts")] += 1
            if kind != "delivered":
                found = class_of(self._classifier, event, key[1])
                pane.addresses[(*key, "blocked")] += found in BLOCK_CLASSES
                pane.addresses[(*key, "throttled")] += found in THROTTLE_CLASSES


def days(
    seed: int, *, start_ms: int = START, hours: int = 24, rate: float = 3.0, users: int = 200
) -> Iterator[SimulatedEvent]:
    """Return the demo's traffic without its flood."""
    return traffic(
        seed, start_ms, rate=rate, users=users, duration_ms=hours * HOUR, flood_after_ms=None
    )


def hijack(seed: int, begin_ms: int, end_ms: int, users: int = 200) -> Iterator[SimulatedEvent]:
    """Return what a thief sends from a quiet account: 30 messages a minute to all the world."""
    rng = random.Random(seed)
    user = compromised_user(seed, users)
    for at_ms in range(begin_ms, end_ms, 2 * SECOND):
        sent = {
            "from_address": user,
            "client_ip": f"2001:db8::{rng.randrange(40):x}",
            "event_type": "sent",
            "recipients": 3,
        }
        yield SimulatedEvent(at_ms, at_ms, "zonemta", sent, repeat=False)
        for _ in range(3):
            outcome = {
                **sent,
                "event_type": "bounced" if rng.random() < 0.2 else "delivered",
                "to_domain": f"victim{rng.randrange(300)}.example",
                "response_code": 550,
                "response_message": "550 5.1.1 no such user",
            }
            later = at_ms + rng.randrange(SECOND)
            yield SimulatedEvent(later, later, "zonemta", outcome, repeat=False)


def blocked(
    events: Iterable[SimulatedEvent], ip: str, provider: str, begin_ms: int, end_ms: int
) -> Iterator[SimulatedEvent]:
    """Return *events* in which *provider* refuses mail from *ip* for a while."""
    for one in events:
        event = one.event
        inside = begin_ms <= one.event_ms < end_ms and event.get("sending_ip") == ip
        if inside and "to_domain" in event and provider_of(event["to_domain"]) == provider:
            refusal = {
                "event_type": "bounced",
                "response_code": 550,
                "enhanced_status": "5.7.1",
                "response_message": f"550 5.7.1 client [{ip}] blocked using our block list",
            }
            yield one._replace(event=event | refusal)
        else:
            yield one


def merged(*streams: Iterable[SimulatedEvent]) -> Iterator[SimulatedEvent]:
    """Return the events of all streams by the time of posting."""
    return heapq.merge(*streams, key=lambda one: one.at_ms)


def busiest_address(seed: int, users: int = 200) -> str:
    """Return the address of ours that most of the mail leaves from."""
    account = world(seed, users).accounts.items[0]
    return sending_ips(account.node, account.zone)[0]


def kinds(raised: Iterable[Raised]) -> list[tuple[Kind, tuple[str, ...], bool]]:
    """Return what was raised, without numbers."""
    return [(one.alert.kind, one.alert.key, one.alert.ends) for one in raised]
