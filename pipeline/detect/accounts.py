"""Hijacked accounts: a pane of an account held against what is ordinary for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline.detect.alerts import Alert, Facts, Kind
from pipeline.detect.baseline import Fleet, Limits, fleet_of, limits_of
from pipeline.detect.episodes import Episodes
from pipeline.detect.history import Accounts, Figures, History
from pipeline.detect.rules import HISTORY_PANES, PANE_MS, AccountRules

MOST_SCORES: Final = 100
"""Accounts whose score is shown."""

KnownOf = Callable[[tuple[str, ...]], Facts]
"""Tells what else is known of a key; asked for the keys of alerts alone."""


def nothing_known(_key: tuple[str, ...]) -> Facts:
    """Know nothing."""
    return Facts()


_Scored = dict[str, tuple[float, Figures]]
"""Score and figures of the accounts that do enough to be judged."""


class _Known(NamedTuple):
    limits: Limits
    first_ms: int | None
    """Its first pane of the last 24 h."""


class AccountDetector:
    """Takes panes in the order of time.  What it says depends on them and on earlier alerts alone.

    To go on after a restart: :meth:`restore` the alerts, :meth:`learn` the closed panes of the
    last 24 h, then :meth:`look` and :meth:`close` as before.
    """

    def __init__(self, rules: AccountRules | None = None) -> None:
        """Start without a past."""
        self.rules = rules or AccountRules()
        self.episodes = Episodes(Kind.HIJACKED_ACCOUNT, self.rules.quiet_panes)
        self.scores: Mapping[str, float] = {}
        """Value over limit of the pane last looked at, at most :data:`MOST_SCORES`, highest first."""
        self._history = History()
        self._limits: dict[str, _Known] = {}
        self._fleet: Fleet | None = None

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Take earlier alerts in the order of the log."""
        self.episodes.restore(alerts)

    def learn(self, pane_ms: int, accounts: Accounts) -> None:
        """Take a closed pane, or late rows of one, without judging it."""
        if self.episodes.open:
            self._go_on(pane_ms, self._scored(accounts))
        self._remember(pane_ms, accounts)

    def look(self, pane_ms: int, accounts: Accounts, known: KnownOf = nothing_known) -> list[Alert]:
        """Judge the open pane as it is so far; call it as often as wanted."""
        return self._judge(pane_ms, self._scored(accounts), known)

    def close(
        self, pane_ms: int, accounts: Accounts, known: KnownOf = nothing_known
    ) -> list[Alert]:
        """Judge a pane that has closed, end the episodes that are over, and learn the pane."""
        scored = self._scored(accounts)
        alerts = self._judge(pane_ms, scored, known)
        self._go_on(pane_ms, scored)
        alerts.extend(self.episodes.end(pane_ms))
        self._remember(pane_ms, accounts)
        return alerts

    def _remember(self, pane_ms: int, accounts: Accounts) -> None:
        self._history.add(pane_ms, accounts)
        self._history.forget(pane_ms)
        self.episodes.forget(pane_ms - HISTORY_PANES * PANE_MS)
        self._limits.clear()
        self._fleet = None

    def _go_on(self, pane_ms: int, scored: _Scored) -> None:
        """Note which episodes a closed pane prolongs; an open one may look worse than it becomes."""
        for user, (score, _) in scored.items():
            if score >= self.rules.calm:
                self.episodes.go_on((user,), pane_ms)

    def _judge(self, pane_ms: int, scored: _Scored, known: KnownOf) -> list[Alert]:
        alerts: list[Alert] = []
        for user, (score, figures) in sorted(scored.items()):
            key = (user,)
            if score >= 1.0 and key not in self.episodes.open:
                evidence = self._evidence(user, figures, pane_ms) | known(key).evidence()
                alerts.append(self.episodes.begin(key, pane_ms, evidence))
        highest = sorted((-score, user) for user, (score, _) in scored.items())[:MOST_SCORES]
        self.scores = {user: -score for score, user in highest}
        return alerts

    def _scored(self, accounts: Accounts) -> _Scored:
        """Return score and figures of the accounts that do enough to be judged."""
        rules = self.rules
        if self._history.panes < rules.least_panes:
            return {}  # nothing is known of anyone: the first hour of an installation
        enough = (
            (accounts.recipients >= rules.calm * rules.least_recipients)
            | (accounts.destinations >= rules.calm * rules.least_destinations)
            | (accounts.delivered + accounts.bounced >= rules.least_attempts)
        )
        figures = {
            accounts.users[place]: accounts.at(place) for place in np.flatnonzero(enough).tolist()
        }
        self._learn_limits([user for user in figures if user not in self._limits])
        return {
            user: (self._limits[user].limits.score(one, rules), one)
            for user, one in figures.items()
        }

    def _learn_limits(self, users: list[str]) -> None:
        """Work out what is ordinary for *users*, once per closed pane."""
        if not users:
            return
        if self._fleet is None:
            self._fleet = fleet_of(self._history.figures(self.episodes.spans()), self.rules)
        for user, past in self._history.of(users):
            covered = [self.episodes.covers((user,), pane) for pane in past.pane_ms.tolist()]
            ordinary = past.figures[~np.array(covered, np.bool_)]
            first_ms = int(past.pane_ms[0]) if len(past.pane_ms) else None
            self._limits[user] = _Known(limits_of(ordinary, self._fleet, self.rules), first_ms)

    def _evidence(self, user: str, figures: Figures, pane_ms: int) -> dict[str, Any]:
        limits, first_ms = self._limits[user]
        scores = limits.scores(figures, self.rules)
        return {
            "signals": [name for name, score in scores.items() if score >= 1.0],
            "score": round(max(scores.values()), 2),
            "figures": {**figures._asdict(), "failure_ratio": round(figures.failure_ratio, 3)},
            "limits": limits.evidence(),
            "first_seen": pane_ms if first_ms is None else first_ms,
        }
