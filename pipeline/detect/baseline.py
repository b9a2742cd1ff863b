"""What is ordinary: a robust level of an account's own past, or of the whole fleet's."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.detect.history import Figures, Ints
from pipeline.detect.rules import AccountRules

_MAD_TO_DEVIATION: Final = 1.4826
_MOST_RATIO: Final = 0.9
"""A failure ratio above this is never ordinary enough to be no alert."""
_RATIO_SPREAD: Final = 0.02


class Limits(NamedTuple):
    """Above these an account's pane is out of the ordinary."""

    recipients: float
    destinations: float
    failure_ratio: float
    basis: str
    """``own`` or ``fleet``: whose past they come from."""
    panes: int
    """How many panes of the account's own past there are."""

    def score(self, figures: Figures, rules: AccountRules) -> float:
        """Return the highest of value over limit."""
        return max(self.scores(figures, rules).values())

    def scores(self, figures: Figures, rules: AccountRules) -> dict[str, float]:
        """Return value over limit by figure."""
        tells = figures.attempts >= rules.least_attempts
        return {
            "recipients": figures.recipients / self.recipients,
            "destinations": figures.destinations / self.destinations,
            "failure_ratio": figures.failure_ratio / self.failure_ratio if tells else 0.0,
        }

    def evidence(self) -> dict[str, Any]:
        """Return the limits as part of an alert's evidence."""
        return {
            "basis": self.basis,
            "panes": self.panes,
            "recipients": round(self.recipients, 1),
            "destinations": round(self.destinations, 1),
            "failure_ratio": round(self.failure_ratio, 3),
        }


class Fleet(NamedTuple):
    """The level of all accounts' panes."""

    recipients: float
    destinations: float
    failure_ratio: float


def fleet_of(figures: Ints, rules: AccountRules) -> Fleet:
    """Return the 99th percentile of the panes of all accounts, by figure."""
    ratios = _ratios(figures, rules)
    return Fleet(_p99(figures[:, 0]), _p99(figures[:, 1]), _p99(ratios))


def limits_of(figures: Ints, fleet: Fleet, rules: AccountRules) -> Limits:
    """Return the limits of an account with this past (a line per pane, columns as in Figures)."""
    panes = len(figures)
    own = panes >= rules.least_panes
    if own:
        recipients, destinations = (_robust(figures[:, place], rules) for place in (0, 1))
    else:
        recipients, destinations = rules.fleet * fleet.recipients, rules.fleet * fleet.destinations
    ratios = _ratios(figures, rules)
    if len(ratios) >= rules.least_panes:
        ratio = _robust(ratios, rules, _RATIO_SPREAD)
    else:
        ratio = rules.fleet * fleet.failure_ratio
    return Limits(
        max(recipients, rules.least_recipients),
        max(destinations, rules.least_destinations),
        min(max(ratio, rules.least_failure_ratio), _MOST_RATIO),
        "own" if own else "fleet",
        panes,
    )


def _robust(values: NDArray[Any], rules: AccountRules, least: float = 0.0) -> float:
    median = float(np.median(values))
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(values - median)))
    return median + rules.deviations * max(deviation, rules.least_spread * median, least)


def _ratios(figures: Ints, rules: AccountRules) -> NDArray[np.float64]:
    attempts = figures[:, 2] + figures[:, 3]
    told = attempts >= rules.least_attempts
    ratios: NDArray[np.float64] = figures[told, 3] / attempts[told]
    return ratios


def _p99(values: NDArray[Any]) -> float:
    return float(np.percentile(values, 99)) if len(values) else 0.0
