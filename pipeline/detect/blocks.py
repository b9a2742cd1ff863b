"""Blocked addresses: how many of an address's attempts a provider refuses or slows down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.detect.accounts import KnownOf, nothing_known
from pipeline.detect.alerts import Alert, Kind
from pipeline.detect.episodes import Episodes, Key
from pipeline.detect.rules import PANE_MS, BlockRules

Ints = NDArray[np.int64]


class Addresses(NamedTuple):
    """What became of mail in one 5 min pane by sending address and provider; each pair once."""

    keys: Sequence[Key]
    """Sending address and provider."""
    attempts: Ints
    """Delivered, bounced and deferred."""
    blocked: Ints
    """Of these, failures of :data:`~pipeline.detect.rules.BLOCK_CLASSES`."""
    throttled: Ints
    """Of these, failures of :data:`~pipeline.detect.rules.THROTTLE_CLASSES`."""


class Attempts(NamedTuple):
    """What became of the attempts of one pair."""

    attempts: int = 0
    blocked: int = 0
    throttled: int = 0

    def plus(self, other: Attempts) -> Attempts:
        """Return both together."""
        return Attempts(*(one + more for one, more in zip(self, other, strict=True)))

    @property
    def block_ratio(self) -> float:
        """Return the share that was refused."""
        return self.blocked / max(1, self.attempts)

    @property
    def throttle_ratio(self) -> float:
        """Return the share that was refused or slowed down."""
        return (self.blocked + self.throttled) / max(1, self.attempts)


_Panes = dict[Key, Attempts]


class BlockDetector:
    """Takes panes in the order of time.  What it says depends on them and on earlier alerts alone.

    To go on after a restart: :meth:`restore` the alerts, :meth:`learn` the closed panes since the
    oldest open episode, at least the last one, then :meth:`look` and :meth:`close` as before.
    """

    def __init__(self, rules: BlockRules | None = None) -> None:
        """Start without a past."""
        self.rules = rules or BlockRules()
        self.episodes = Episodes(Kind.IP_BLOCKED, self.rules.quiet_panes)
        self._before: _Panes = {}
        self._before_ms = 0

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Take earlier alerts in the order of the log."""
        self.episodes.restore(alerts)

    def learn(self, pane_ms: int, addresses: Addresses) -> None:
        """Take a closed pane without judging it."""
        panes = _panes(addresses)
        self._go_on(pane_ms, panes)
        self._remember(pane_ms, panes)

    def look(
        self, pane_ms: int, addresses: Addresses, known: KnownOf = nothing_known
    ) -> list[Alert]:
        """Judge the open pane as it is so far; call it as often as wanted."""
        return self._judge(pane_ms, _panes(addresses), known)

    def close(
        self, pane_ms: int, addresses: Addresses, known: KnownOf = nothing_known
    ) -> list[Alert]:
        """Judge a pane that has closed, and end the episodes that are over."""
        panes = _panes(addresses)
        alerts = self._judge(pane_ms, panes, known)
        self._go_on(pane_ms, panes)
        alerts.extend(self.episodes.end(pane_ms))
        self.episodes.forget(pane_ms)
        self._remember(pane_ms, panes)
        return alerts

    def _remember(self, pane_ms: int, panes: _Panes) -> None:
        if pane_ms >= self._before_ms:
            self._before, self._before_ms = panes, pane_ms

    def _judge(self, pane_ms: int, panes: _Panes, known: KnownOf) -> list[Alert]:
        adjacent = self._before if self._before_ms == pane_ms - PANE_MS else {}
        alerts = []
        for key, now in sorted(panes.items()):
            if key not in self.episodes.open:
                both = now.plus(adjacent.get(key, Attempts()))
                found = next((one for one in (now, both) if self._is_blocked(one)), None)
                if found is not None:
                    evidence = self._evidence(found) | known(key).evidence()
                    alerts.append(self.episodes.begin(key, pane_ms, evidence))
        return alerts

    def _go_on(self, pane_ms: int, panes: _Panes) -> None:
        """Note which episodes a closed pane prolongs; an open one may look worse than it becomes."""
        rules = self.rules
        for key in self.episodes.open:
            now = panes.get(key, Attempts())
            if now.block_ratio >= rules.block_end or now.throttle_ratio >= rules.throttle_end:
                self.episodes.go_on(key, pane_ms)

    def _is_blocked(self, one: Attempts) -> bool:
        rules = self.rules
        return one.attempts >= rules.least_attempts and (
            one.block_ratio >= rules.block_begin or one.throttle_ratio >= rules.throttle_begin
        )

    def _evidence(self, found: Attempts) -> dict[str, Any]:
        return {
            "figures": found._asdict(),
            "block_ratio": round(found.block_ratio, 3),
            "throttle_ratio": round(found.throttle_ratio, 3),
            "limits": {
                "attempts": self.rules.least_attempts,
                "block_ratio": self.rules.block_begin,
                "throttle_ratio": self.rules.throttle_begin,
            },
        }


def _panes(addresses: Addresses) -> _Panes:
    columns = (column.tolist() for column in addresses[1:])
    return {key: Attempts(*row) for key, *row in zip(addresses.keys, *columns, strict=True)}
