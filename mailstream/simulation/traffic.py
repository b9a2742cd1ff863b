"""A mail installation's traffic as its hooks would post it: pure, seeded, endless if asked.

A :class:`SimulatedEvent` says *when* to post *what*; who posts it, and how fast, is the caller's
business (the demo in real time, tests and benches at once).  Outbound mail is reported by ZoneMTA
nodes: ``sent``, then per recipient ``delivered``, ``bounced`` or a chain of ``deferred`` with the
same ``queue_id`` and ``seq``.  Inbound mail is reported by Haraka nodes in the shape of a
hand-written plugin.  Some events are posted twice, some late; after a while one account floods.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any, Final, NamedTuple

from mailstream.simulation.arrivals import arrivals
from mailstream.simulation.replies import (
    INBOUND_REJECTIONS,
    RECEIVERS,
    SUBMISSION_REJECTIONS,
    Receiver,
    Reply,
)
from mailstream.simulation.world import INBOUND_NODES, Account, Choice, World, sending_ips, world
from pipeline.core.pane import MINUTE_MS

EVENTS_PER_ARRIVAL: Final = 2.19
"""Mean number of events that one arriving message causes; a test keeps it true."""

USERS: Final = 2000
"""Accounts of a world, unless another number is asked for."""

RETRY_MINUTES: Final = (5, 7, 8, 25, 75, 120)
"""Waits between attempts (ZoneMTA's defaults); when used up, the next failure bounces."""

_NODE_CLOCK: Final = {"mta2": timezone(timedelta(hours=1)), "mta3": timezone(timedelta(hours=-5))}
"""Nodes that post local times with an offset; the others post UTC."""
_RECEIVERS: Final = Choice(RECEIVERS, [receiver.share for receiver in RECEIVERS])
_PROVIDER_DOMAINS: Final = {
    receiver.name: Choice(receiver.domains, [1 / n for n in range(1, len(receiver.domains) + 1)])
    for receiver in RECEIVERS
    if receiver.domains
}

Fields = dict[str, Any]


class SimulatedEvent(NamedTuple):
    """One event to be posted."""

    at_ms: int
    """When to post it."""
    event_ms: int
    """When it happened: what ``event["timestamp"]`` says."""
    source: str
    """``zonemta`` or ``haraka``: the header ``X-Source``."""
    event: Fields
    repeat: bool
    """Whether this very event was already posted before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate; times are ms since the epoch, rates events per second."""

    seed: int
    start_ms: int
    rate: float = 50.0
    """Mean over a day, repeats and the flood not counted."""
    duration_ms: int = 0
    """0: without end."""
    users: int = USERS
    repeats: float = 0.02
    """Share of events that are posted twice."""
    late: float = 0.03
    """Share of events that are posted seconds to minutes after the others of their time."""
    inbound: float = 0.25
    """Share of arriving messages that are inbound."""
    flood_after_ms: int | None = MINUTE_MS
    """When the compromised account begins to flood, after the start; None: never."""
    flood_share: float = 0.3
    """The flood's messages, as a share of all other arriving messages."""


def compromised_user(seed: int, users: int = USERS) -> str:
    """Return the address of the account that will flood."""
    return world(seed, users).compromised.address


def traffic(seed: int, start_ms: int, **options: Any) -> Iterator[SimulatedEvent]:
    """Return the events of a simulation, ordered by ``at_ms``.

    The same arguments give the same events.  *options* are the other fields of :class:`Plan`.

    Raises:
        ValueError: The rate is not positive, or the world is too small.
    """
    return events_of(Plan(seed, start_ms, **options))


def events_of(plan: Plan) -> Iterator[SimulatedEvent]:
    """Return the events of *plan*, ordered by ``at_ms``.

    Raises:
        ValueError: The rate is not positive, or the world is too small.
    """
    if plan.rate <= 0:
        raise ValueError(f"the rate must be positive, not {plan.rate}")
    return _Simulation(plan, world(plan.seed, plan.users)).run()


class _Simulation:
    """The moving part: a queue of events that already have a cause but were not posted yet."""

    def __init__(self, plan: Plan, fixed: World) -> None:
        self._plan = plan
        self._world = fixed
        self._rng = random.Random(f"traffic {plan.seed}")  # noqa: S311  a simulation must be repeatable
        self._serial = count()
        self._queue: list[tuple[int, int, SimulatedEvent]] = []

    def run(self) -> Iterator[SimulatedEvent]:
        plan = self._plan
        end_ms = plan.start_ms + plan.duration_ms if plan.duration_ms else math.inf
        rate = plan.rate / EVENTS_PER_ARRIVAL
        for arrival in arrivals(self._rng, plan.start_ms, end_ms, rate):
            yield from self._due(arrival)
            self._arrive(arrival)
        yield from self._due(end_ms - 1)

    def _due(self, until_ms: float) -> Iterator[SimulatedEvent]:
        """Yield what is to be posted by then."""
        while self._queue and self._queue[0][0] <= until_ms:
            yield heapq.heappop(self._queue)[2]

    def _arrive(self, now_ms: int) -> None:
        plan, rng = self._plan, self._rng
        if rng.random() < plan.inbound:
            self._inbound(now_ms)
        else:
            account = self._world.accounts.pick(rng)
            self._outbound(
                now_ms, account, rng.choice(account.client_ips), self._recipients(account)
            )
        flooding = plan.flood_after_ms is not None and now_ms >= plan.start_ms + plan.flood_after_ms
        if flooding and rng.random() < plan.flood_share:
            robot = rng.choice(self._world.robots)
            self._outbound(now_ms, self._world.compromised, robot, rng.randint(1, 5), flood=True)

    def _recipients(self, account: Account) -> int:
        if account.zone == "bulk":
            return 1 + int(self._rng.expovariate(1.0))
        return 1 if self._rng.random() < 0.9 else self._rng.randint(2, 4)

    def _outbound(
        self, now_ms: int, account: Account, client_ip: str, recipients: int, *, flood: bool = False
    ) -> None:
        rng = self._rng
        message = {
            "message_id": f"<{rng.getrandbits(64):016x}@{account.domain}>",
            "from_address": account.address,
            "from_user": account.local,
            "from_domain": account.domain,
            **({"user": account.address, "auth_method": "PLAIN"} if account.tells_login else {}),
            "client_ip": client_ip,
            "mta_node": account.node,
            "size_bytes": int(rng.lognormvariate(9.6, 1.3)) + 600,
            "recipients": recipients,
        }
        if not flood and rng.random() < 0.004:
            refusal = _answer(rng.choice(SUBMISSION_REJECTIONS), {})
            self._post(now_ms, "zonemta", {"event_type": "rejected", **message, **refusal})
            return
        message["queue_id"] = f"{rng.getrandbits(72):018x}"
        message["zone"] = account.zone
        self._post(now_ms, "zonemta", {"event_type": "sent", **message})
        del message["recipients"]
        for place in range(1, recipients + 1):
            self._deliver(now_ms, {**message, "seq": f"{place:03d}"}, flood=flood)

    def _deliver(self, sent_ms: int, message: Fields, *, flood: bool) -> None:
        """Simulate the attempts for one recipient, with the waits between them."""
        rng = self._rng
        receiver = _RECEIVERS.pick(rng)
        domain = self._domain_of(receiver)
        ip = rng.choice(sending_ips(message["mta_node"], message["zone"]))
        at_ms = sent_ms
        for attempt, wait in enumerate((*RETRY_MINUTES, 0), start=1):
            at_ms += 80 + int(1000 * rng.lognormvariate(math.log(receiver.median_s), 0.9))
            kind, reply = self._verdict(receiver, attempt, flood=flood)
            known = {**message, "to_domain": domain, "attempt": attempt}
            self._outcome(known, kind, reply, receiver, ip, sent_ms, at_ms)
            if kind != "deferred":
                break
            at_ms += wait * MINUTE_MS
        if kind == "bounced" and message["zone"] != "bounces" and rng.random() < 0.9:
            self._notify(at_ms + rng.randint(50, 500), message)

    def _verdict(self, receiver: Receiver, attempt: int, *, flood: bool) -> tuple[str, Reply]:
        rng = self._rng
        if flood and rng.random() < 0.7:
            unknown = rng.random() < 0.5
            reply = rng.choice(receiver.bounced if unknown else receiver.blocks)
        else:
            # a second attempt meets the same greylist or quota less often than a first one
            deferral = receiver.deferral if attempt == 1 else 0.35
            draw = rng.random()
            if draw >= deferral + receiver.bounce:
                return "delivered", rng.choice(receiver.delivered)
            reply = rng.choice(receiver.deferred if draw < deferral else receiver.bounced)
        temporary = reply in receiver.deferred or (reply.code or 0) in range(400, 500)
        if temporary and attempt <= len(RETRY_MINUTES):
            return "deferred", reply
        return "bounced", reply

    def _outcome(
        self,
        message: Fields,
        kind: str,
        reply: Reply,
        receiver: Receiver,
        ip: str,
        sent_ms: int,
        at_ms: int,
    ) -> None:
        rng = self._rng
        domain = message["to_domain"]
        event: Fields = {"event_type": kind, **message}
        event |= _answer(
            reply,
            {
                "ip": ip,
                "to": f"recipient{rng.getrandbits(24):06x}@{domain}",
                "id": f"{rng.getrandbits(60):015x}",
                "message_id": message["message_id"],
                "size": message["size_bytes"],
                "peer": f"198.18.{rng.getrandbits(8)}.{rng.getrandbits(8)}",
                "domain": domain,
            },
        )
        if reply.connected:
            event["sending_ip"] = ip
            event["mx_host"] = receiver.mx.replace("{domain}", domain)
            event["smtp_time_ms"] = min(40 + int(rng.lognormvariate(5.6, 0.6)), at_ms - sent_ms)
        event["delivery_time_ms"] = event["queue_time_ms"] = at_ms - sent_ms
        self._post(at_ms, "zonemta", event)

    def _notify(self, at_ms: int, bounced: Fields) -> None:
        """Send the sender a DSN from zone ``bounces``; its outcome is local and at once."""
        dsn = {
            "message_id": f"<{self._rng.getrandbits(64):016x}@{bounced['mta_node']}.example>",
            "from_address": "",
            "to_domain": bounced["from_domain"],
            "mta_node": bounced["mta_node"],
            "zone": "bounces",
            "size_bytes": 4200,
            "queue_id": f"{self._rng.getrandbits(72):018x}",
        }
        self._post(at_ms, "zonemta", {"event_type": "sent", **dsn, "recipients": 1})
        took_ms = self._rng.randint(60, 900)
        delivered = {"seq": "001", "attempt": 1, "response_code": 250, "delivery_time_ms": took_ms}
        ip = sending_ips(bounced["mta_node"], "bounces")[0]
        event = {"event_type": "delivered", **dsn, **delivered, "sending_ip": ip}
        self._post(at_ms + took_ms, "zonemta", event)

    def _inbound(self, now_ms: int) -> None:
        rng = self._rng
        account = self._world.accounts.pick(rng)
        sender = self._domain_of(_RECEIVERS.pick(rng))
        ip = rng.choice(self._world.outside_ips)
        event: Fields = {
            "event_type": "received",
            "message_id": f"<{rng.getrandbits(64):016x}@{sender}>",
            "from": f"sender{rng.getrandbits(20):05x}@{sender}",
            "to": account.address,
            "source_ip": ip,
            "hostname": f"mail.{sender}",
            "mta_node": rng.choice(INBOUND_NODES),
            "queue_id": f"{rng.getrandbits(128):032X}.1",
        }
        if rng.random() < 0.3:
            reply = rng.choice(INBOUND_REJECTIONS)
            event |= {"event_type": "rejected"} | _answer(reply, {"ip": ip, "to": account.address})
        else:
            event |= {"size_bytes": int(rng.lognormvariate(9.8, 1.2)) + 900, "response_code": 250}
            event["spam_score"] = round(rng.uniform(-3, 6), 1)
        self._post(now_ms, "haraka", event)

    def _domain_of(self, receiver: Receiver) -> str:
        domains = _PROVIDER_DOMAINS.get(receiver.name, self._world.tail_domains)
        return domains.pick(self._rng)

    def _post(self, now_ms: int, source: str, event: Fields) -> None:
        """Queue an event for posting: soon as a rule, later now and then, sometimes twice."""
        plan, rng = self._plan, self._rng
        event_ms = now_ms
        if source == "haraka":  # its plugin posts whole epoch seconds
            event_ms -= now_ms % 1000
            timestamp: int | str = event_ms // 1000
        else:
            timestamp = _rfc3339(event_ms, event["mta_node"])
        event = {"event_id": f"{rng.getrandbits(128):032x}", "timestamp": timestamp, **event}
        at_ms = now_ms + rng.randint(0, 1500)
        if rng.random() < plan.late:
            at_ms += min(int(1000 * rng.lognormvariate(3.2, 1.2)), 10 * MINUTE_MS)
        self._queue_up(SimulatedEvent(at_ms, event_ms, source, event, repeat=False))
        if rng.random() < plan.repeats:
            again_ms = at_ms + rng.randint(100, 30_000)
            self._queue_up(SimulatedEvent(again_ms, event_ms, source, event, repeat=True))

    def _queue_up(self, event: SimulatedEvent) -> None:
        heapq.heappush(self._queue, (event.at_ms, next(self._serial), event))


def _answer(reply: Reply, facts: Fields) -> Fields:
    """Return the fields that tell *reply*, its template filled in."""
    text = reply.text.format(**facts)
    if not reply.connected:
        return {"error_code": reply.error, "error_message": text}
    fields: Fields = {"response_code": reply.code, "response_message": text}
    if reply.status is not None:
        fields["enhanced_status"] = reply.status
    if reply.error is not None:
        fields["error_code"] = reply.error
    return fields


def _rfc3339(at_ms: int, node: str) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, _NODE_CLOCK.get(node, UTC))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
