"""Alerts as ``mail.alerts`` tells them: episodes that begin and end.  Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from consumers.view.recent import Lru
from pipeline.core.errors import RecordError
from pipeline.core.timestamp import epoch_ms

TOPIC: Final = "alerts"
MAX_ALERTS: Final = 1_000


class Alert(msgspec.Struct):
    """One episode."""

    kind: str
    key: Any
    since: str | int | float
    until: str | int | float | None = None
    evidence: Any = None


class Alerts:
    """The newest episodes, those that go on among them."""

    def __init__(self) -> None:
        """Know none yet."""
        self._held: Lru[bytes, Alert] = Lru(MAX_ALERTS)
        self.unusable = 0
        """Records that could not be read."""

    def take(self, value: bytes) -> None:
        """Take one record; one that is unusable is counted."""
        try:
            alert = msgspec.json.decode(value, type=Alert)
            alert.since = epoch_ms(alert.since) / 1000
            if alert.until is not None:
                alert.until = epoch_ms(alert.until) / 1000
        except (msgspec.MsgspecError, UnicodeDecodeError, RecordError):
            self.unusable += 1
            return
        # An end that came before its beginning, of another partition, stays.
        identity = msgspec.json.encode([alert.kind, alert.key, alert.since])
        held = self._held.get(identity)
        if held is None or held.until is None:
            self._held.put(identity, alert)

    def shown(self) -> list[dict[str, Any]]:
        """Return the episodes as JSON has them: open ones first, the newest first."""
        alerts = sorted(
            (msgspec.to_builtins(alert) for _, alert in self._held.items()),
            key=lambda alert: (alert["until"] is not None, -alert["since"]),
        )
        return list(alerts)
