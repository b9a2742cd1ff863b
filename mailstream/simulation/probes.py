"""Outcomes of simulated roundtrip probes, as they stand on the raw topic: pure, seeded, endless if asked.

Most mails arrive within seconds, some in junk; some are not accepted, some are lost, of which a few
are seen later, and a few are delivered twice.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from mailstream.simulation.world import Choice
from pipeline.core.pane import MINUTE_MS
from pipeline.core.timestamp import rfc3339

ROUTES: Final = ("own-to-gmail", "gmail-to-own", "own-to-outlook", "own-to-own")
ORIGINS: Final = ("probe1", "probe2")
TIMEOUT_MS: Final = 3 * MINUTE_MS
"""A mail that is not seen by then is lost, until it is seen after all."""

_Failure: TypeAlias = tuple[str, str, str, int | None]

_OUTCOMES: Final = Choice(
    ("inbox", "junk", "lost", "send_failed", "receive_failed", "uncertain"),
    (0.9, 0.03, 0.03, 0.02, 0.01, 0.01),
)
_FAILURES: Final[dict[str, Choice[_Failure]]] = {
    "send_failed": Choice(
        (
            ("auth", "auth", "535 5.7.8 Authentication failed", 535),
            ("rcpt", "throttled", "450 4.2.0 Greylisted, come back in 5 minutes", 450),
            ("connect", "timeout", "the server did not answer within 30 s", None),
        ),
        (1, 2, 1),
    ),
    "receive_failed": Choice(
        (("imap_auth", "auth", "NO [AUTHENTICATIONFAILED] Invalid credentials", None),), (1,)
    ),
    "lost": Choice((("found", "not_found", "the mail was not seen within 3m", None),), (1,)),
    "uncertain": Choice((("data", "dropped", "the server closed the connection", None),), (1,)),
}
"""Phase, class, what was said and reply code, by outcome."""
_SENDING: Final = ("dns", "connect", "tls", "auth", "mail", "rcpt", "data")
_SEEN_LATER: Final = 0.5
_TWICE: Final = 0.01


class SimulatedProbe(NamedTuple):
    """One outcome."""

    at_ms: int
    """When it was known."""
    origin: str
    """The probe that ran the round."""
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What to simulate; times are ms since the epoch."""

    seed: int
    start_ms: int
    duration_ms: int = 0
    """0: without end."""
    interval_ms: int = MINUTE_MS
    """Between the rounds of one route."""
    routes: Sequence[str] = ROUTES
    origins: Sequence[str] = ORIGINS


def probes(plan: ProbePlan) -> Iterator[SimulatedProbe]:
    """Yield the outcomes of *plan*, ordered by ``at_ms``; the same plan gives the same outcomes."""
    rng = random.Random(f"probes {plan.seed}")  # noqa: S311  a simulation must be repeatable
    end_ms = plan.start_ms + plan.duration_ms if plan.duration_ms else math.inf
    waiting: list[tuple[int, int, SimulatedProbe]] = []
    number, round_ms = 0, plan.start_ms
    while round_ms < end_ms:
        for origin in plan.origins:
            for route in plan.routes:
                for known in _round(rng, route, origin, round_ms):
                    heapq.heappush(waiting, (known.at_ms, number, known))
                    number += 1
        round_ms += plan.interval_ms
        while waiting and waiting[0][0] < min(round_ms, end_ms):
            yield heapq.heappop(waiting)[2]


def _round(rng: random.Random, route: str, origin: str, start_ms: int) -> Iterator[SimulatedProbe]:
    """Yield what becomes known of one mail: an outcome, and perhaps that it was late or came twice."""
    sender, _, recipient = route.partition("-to-")
    outcome = _OUTCOMES.pick(rng)
    phases = {name: round(rng.lognormvariate(3, 1), 3) for name in _SENDING}
    record: dict[str, Any] = {
        "route": route,
        "from": sender,
        "to": recipient,
        "token": f"{rng.getrandbits(96):024x}",
        "from_domain": f"{sender}.example",
        "to_domain": f"{recipient}.example",
        "tries": 1,
    }
    found_ms = round(rng.lognormvariate(8, 1), 3)
    if outcome in _FAILURES:
        phase, kind, text, code = _FAILURES[outcome].pick(rng)
        record |= {"failed_phase": phase, "error_class": kind, "error": text}
        if code is not None:
            record |= {"response_code": code, "response_message": text}
        found_ms = TIMEOUT_MS
    else:
        phases |= {"imap_connect": 12.5, "found": found_ms, "verify": 3.25}
        record["folder"] = "INBOX" if outcome == "inbox" else "Junk"
        record["roundtrip_ms"] = round(sum(phases.values()), 3)
    record["phases_ms"] = phases
    known_ms = start_ms + int(sum(phases.values()) + (found_ms if outcome in _FAILURES else 0))
    yield _known(record, outcome, origin, known_ms)
    if outcome == "lost" and rng.random() < _SEEN_LATER:
        late_ms = known_ms + rng.randrange(60 * MINUTE_MS)
        seen = {"folder": "INBOX", "roundtrip_ms": late_ms - start_ms}
        yield _known(_of_mail(record) | seen, "late", origin, late_ms)
    if outcome == "inbox" and rng.random() < _TWICE:
        yield _known(_of_mail(record) | {"folder": "INBOX"}, "duplicate", origin, known_ms + 5000)


def _of_mail(record: dict[str, Any]) -> dict[str, Any]:
    """Return what stays true of a mail however it ends."""
    kept = ("route", "from", "to", "token", "from_domain", "to_domain")
    return {name: record[name] for name in kept}


def _known(record: dict[str, Any], outcome: str, origin: str, at_ms: int) -> SimulatedProbe:
    told = {"timestamp": rfc3339(at_ms), "outcome": outcome, **record}
    return SimulatedProbe(at_ms, origin, told)
