"""What counts as out of the ordinary: every threshold of the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.core.pane import DAY_MS, MINUTE_MS

PANE_MS: Final = 5 * MINUTE_MS
HISTORY_PANES: Final = DAY_MS // PANE_MS


BLOCK_CLASSES: Final = frozenset({"ip_blocked"})
"""Bounce classes by which a provider refuses an address of ours."""
THROTTLE_CLASSES: Final = frozenset({"rate_limited", "too_many_recipients"})
"""Bounce classes by which it slows us down."""


@dataclass(frozen=True, slots=True)
class AccountRules:
    """When an account is taken for hijacked.

    Each figure of a 5 min pane is held against the account's own median over the panes of the
    last 24 h in which it sent, plus *deviations* robust deviations (1.4826 MAD, at least
    *least_spread* of the median).  An account that sent in fewer than *least_panes* of them has no
    ordinary day yet: it is held against the 99th percentile of all accounts' panes, times *fleet*.
    Whatever the comparison says, nothing below a floor is ever an alert.
    """

    least_recipients: int = 100
    least_destinations: int = 50
    least_attempts: int = 50
    """Outcomes below which the failure ratio says nothing."""
    least_failure_ratio: float = 0.4
    deviations: float = 8.0
    least_spread: float = 0.25
    least_panes: int = 12
    fleet: float = 3.0
    calm: float = 0.5
    """An episode goes on while the score, value over threshold, is at least this."""
    quiet_panes: int = 6
    """Calm panes after which it ends."""


@dataclass(frozen=True, slots=True)
class BlockRules:
    """When an address of ours is taken for blocked by a provider.

    The ratios are those of the open 5 min pane, or of it and the one before, to all attempts.
    """

    least_attempts: int = 20
    block_begin: float = 0.25
    block_end: float = 0.1
    throttle_begin: float = 0.6
    """Of blocks and throttling together."""
    throttle_end: float = 0.3
    quiet_panes: int = 6
