"""What events tell of an account, for the evidence of its alert: numbers alone do not name anyone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Final

import msgspec

from pipeline.detect.alerts import MOST_EVIDENCE, Facts

MOST_VALUES: Final = 10_000
"""Different values of one field of one account that are counted."""


class _Event(msgspec.Struct):
    user: str | None = None
    direction: str | None = None
    to_domain: str | None = None
    client_ip: str | None = None
    auth_method: str | None = None


_decode = msgspec.json.Decoder(_Event).decode
_FIELDS: Final = ("to_domain", "client_ip", "auth_method")


class Testimony:
    """Implements ``core.batch.Witness`` for some accounts; ties go by name."""

    def __init__(self, users: Collection[str], since_ms: int) -> None:
        """Listen for what is said of *users*, about events received from *since_ms* on."""
        self.since_ms = since_ms
        self._counted = {user: {name: Counter[str]() for name in _FIELDS} for user in users}

    def take(self, value: bytes) -> None:
        """Take one value of ``mail.events``; what is no event is passed over."""
        try:
            event = _decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        counted = self._counted.get(event.user or "")
        if counted is None or event.direction != "outbound":
            return
        for name, counter in counted.items():
            said = getattr(event, name)
            if said is not None and (said in counter or len(counter) < MOST_VALUES):
                counter[said] += 1

    def facts(self, user: str) -> Facts:
        """Return what was said of *user*."""
        counted = self._counted.get(user)
        if counted is None:
            return Facts()
        destinations, client_ips, methods = (_most(counted[name]) for name in _FIELDS)
        return Facts(destinations, client_ips, next(iter(methods), None))


def _most(counter: Counter[str]) -> tuple[str, ...]:
    ordered = sorted(counter.items(), key=lambda one: (-one[1], one[0]))
    return tuple(name for name, _ in ordered[:MOST_EVIDENCE])
