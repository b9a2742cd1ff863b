"""The probe's own metrics after rounds of every kind, without mail: each look adds one more."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, generate_latest

from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import ErrorClass, Failure, Found, Phase, Sent
from producers.sources.probe.config import Route
from producers.sources.probe.config_model import ExporterKeys
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.outcome import Outcome, Result

OWN = Account("own", "probe@own.example")
ROUTES = tuple(
    Route(f"own-to-{name}", OWN, Account(name, f"probe@{name}.example"), 300.0, 120.0)
    for name in ("gmail", "gmx", "late")
)
_PHASES = {phase: 5.0 * number for number, phase in enumerate(Phase, 1)}
_GREYLISTED = Failure(Phase.RCPT, ErrorClass.THROTTLED, "451 4.7.1 come again", 451, "4.7.1")
_REFUSED = Failure(Phase.AUTH, ErrorClass.AUTH, "535 5.7.8 no", 535, "5.7.8")


class ProbePage:
    """The page of one probe with three routes, of which the second fails and the third is in spam."""

    def __init__(self, prefix: str = "mail_") -> None:
        """Show the first rounds."""
        self._registry = CollectorRegistry()
        self.metrics = ProbeMetrics(self._registry, prefix)
        self.metrics.configure(ExporterKeys(metrics_prefix=prefix), ROUTES)
        self.metrics.queue({"active": 3, "deferred": 7})
        self._round = 0

    def look(self) -> str:
        """Run a round of every route, and return the page."""
        self._round += 1
        good, bad, spam = ROUTES
        self.metrics.show(self._arrived(good, "INBOX", Result.INBOX))
        self.metrics.show(self._arrived(spam, "Junk", Result.JUNK))
        self.metrics.show(self._of(bad, Result.SEND_FAILED, failure=_REFUSED))
        for result in (Result.LATE, Result.DUPLICATE):
            self.metrics.show(Outcome(good, "token", result, self._now()))
        return generate_latest(self._registry).decode()

    def _arrived(self, route: Route, folder: str, result: Result) -> Outcome:
        return self._of(
            route,
            result,
            sent=Sent(accepted=True, at_ms=self._now(), code=250),
            found=Found("token", folder, result is Result.JUNK, 1, self._now()),
            roundtrip_ms=1234.5,
            troubles=(_GREYLISTED,),
        )

    def _of(self, route: Route, result: Result, **more: object) -> Outcome:
        return Outcome(
            route,
            f"token{self._round}",
            result,
            self._now(),
            began_ms=self._now() - 2000,
            phases_ms=dict(_PHASES),
            certificate_days={"smtp": 60.5, "imap": 10.0},
            mx_records=2,
            mx_lookup_ms=3.0,
            **more,  # type: ignore[arg-type]  # fields of an outcome, as given above
        )

    @staticmethod
    def _now() -> int:
        return int(time.time() * 1000)
