"""The probe's own metrics after rounds of every kind, without mail: each look adds one more."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import ErrorClass, Failure, Found, Phase, Sent
from producers.sources.probe.config import Options, ProbeConfig, Route
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.outcome import Kind, Outcome

OWN = Account("own", "probe@own.example")
ROUTES = tuple(
    Route(f"own-to-{name}", OWN, Account(name, f"probe@{name}.example"), 300.0, 120.0)
    for name in ("gmail", "gmx", "yahoo")
)
_PHASES = {phase: 5.0 * number for number, phase in enumerate(Phase, 1)}
_REFUSED = Failure(Phase.AUTH, ErrorClass.AUTH, "535 5.7.8 no", 535, "5.7.8")
_OF_NO_ROUND = (Kind.LATE, Kind.DUPLICATE)


class ProbePage:
    """The page of a probe with three routes: one is well, one cannot log in, one is in spam."""

    def __init__(self) -> None:
        """Show no round yet."""
        self._registry = CollectorRegistry()
        self._round = 0
        options = Options()
        self._metrics = ProbeMetrics(self._registry, options.series_prefix)
        self._metrics.configure(ProbeConfig(Path("probe.yaml"), 0, 0, options, ROUTES))
        self._metrics.queue({"active": 3, "deferred": 7})

    def look(self) -> str:
        """Run a round of every route, and return the page."""
        self._round += 1
        good, bad, spam = ROUTES
        arrived = self._arrived(good, "INBOX", Kind.INBOX)
        for outcome in (arrived, self._arrived(spam, "Junk", Kind.JUNK)):
            self._metrics.take(outcome, None)
        self._metrics.take(self._outcome(bad, Kind.SEND_FAILED, failure=_REFUSED), _REFUSED.text)
        for kind in _OF_NO_ROUND:
            self._metrics.take(replace(arrived, kind=kind), None)
        return generate_latest(self._registry).decode()

    def _arrived(self, route: Route, folder: str, kind: Kind) -> Outcome:
        now_ms = _now_ms()
        found = Found("token", folder, kind is Kind.JUNK, 1, now_ms)
        sent = Sent(accepted=True, at_ms=now_ms, code=250)
        outcome = self._outcome(route, kind)
        return replace(outcome, sent=sent, found=found, roundtrip_ms=1234.5, throttled=(451,))

    def _outcome(self, route: Route, kind: Kind, failure: Failure | None = None) -> Outcome:
        now_ms = _now_ms()
        return Outcome(
            route,
            f"token{self._round}",
            kind,
            now_ms,
            failure=failure,
            phases_ms=dict(_PHASES),
            certificate_days={"smtp": 60.5, "imap": 10.0},
            mail_servers=("mx1.example", "mx2.example"),
            mx_lookup_ms=3.0,
            send_at_ms=now_ms - 2000,
            receive_attempted=failure is None,
        )


def _now_ms() -> int:
    return int(time.time() * 1000)
