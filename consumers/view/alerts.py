"""Alerts as ``mail.alerts`` tells them: episodes that begin and end.  Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from consumers.moments import Moment, moment_ms
from consumers.view.recent import Lru
from pipeline.core.errors import RecordError

MAX_ALERTS: Final = 1_000
"""Episodes that go on, and as many that ended."""


class Alert(msgspec.Struct):
    """One episode."""

    kind: str
    key: Any
    since: Moment
    until: Moment | None = None
    evidence: Any = None


class Alerts:
    """The newest episodes; those that ended never crowd out those that go on."""

    def __init__(self) -> None:
        """Know none yet."""
        self._open: Lru[bytes, Alert] = Lru(MAX_ALERTS)
        self._ended: Lru[bytes, Alert] = Lru(MAX_ALERTS)
        self.changes = 0
        """Grows with every record, so that a reader knows when to look again."""
        self.unusable = 0
        """Records that could not be read."""

    def take(self, value: bytes) -> None:
        """Take one record; one that is unusable is counted."""
        try:
            alert = msgspec.json.decode(value, type=Alert)
            alert.since = moment_ms(alert.since) / 1000
            if alert.until is not None:
                alert.until = moment_ms(alert.until) / 1000
        except (msgspec.MsgspecError, UnicodeDecodeError, RecordError, RecursionError):
            self.unusable += 1
            return
        self.changes += 1
        identity = msgspec.json.encode([alert.kind, alert.key, alert.since])
        if alert.until is not None:
            begun = self._open.pop(identity)
            if not alert.evidence and begun is not None:
                alert.evidence = begun.evidence
            self._ended.put(identity, alert)
        elif self._ended.get(identity) is None:
            # An end that came before its beginning, of another partition, stays.
            self._open.put(identity, alert)

    def shown(self) -> list[dict[str, Any]]:
        """Return the episodes as JSON has them: open ones first, the newest first."""
        held = [alert for lru in (self._open, self._ended) for _, alert in lru.items()]
        alerts = sorted(
            map(msgspec.to_builtins, held),
            key=lambda alert: (alert["until"] is not None, -alert["since"]),
        )
        return alerts[:MAX_ALERTS]
