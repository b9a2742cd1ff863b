"""Alerts: what ``mail.alerts`` holds, one record when an episode begins and one when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from pipeline.core.errors import Reason, RecordError

MOST_EVIDENCE: Final = 20
"""Entries that a list in the evidence holds at most."""


class Kind(StrEnum):
    """What is wrong."""

    HIJACKED_ACCOUNT = "hijacked_account"
    """An account sends as it never did; the key is the user."""
    IP_BLOCKED = "ip_blocked"
    """A provider refuses or slows down an address of ours; the key is sending address, provider."""


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """The beginning of an episode, or its end: then *until* is set."""

    kind: Kind
    key: tuple[str, ...]
    since: int
    """Start of the first 5 min pane of the episode, ms since the epoch."""
    until: int | None = None
    """End of the last pane that was out of the ordinary."""
    evidence: Mapping[str, Any] = {}

    @property
    def ends(self) -> bool:
        """Tell whether the episode ends with this record."""
        return self.until is not None


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a key beside its numbers, for the evidence; the caller fills in what it has."""

    destinations: tuple[str, ...] = ()
    """Where most of it goes, most first."""
    client_ips: tuple[str, ...] = ()
    auth_method: str | None = None
    classes: Mapping[str, int] = {}
    """Failures by bounce class."""

    def evidence(self) -> dict[str, Any]:
        """Return what is known, each list at most :data:`MOST_EVIDENCE` long."""
        found: dict[str, Any] = {}
        if self.destinations:
            found["destinations"] = list(self.destinations[:MOST_EVIDENCE])
        if self.client_ips:
            found["client_ips"] = list(self.client_ips[:MOST_EVIDENCE])
        if self.auth_method is not None:
            found["auth_method"] = self.auth_method
        if self.classes:
            most = sorted(self.classes.items(), key=lambda one: (-one[1], one[0]))
            found["classes"] = dict(most[:MOST_EVIDENCE])
        return found


_encoder = msgspec.json.Encoder(order="deterministic")
_decode = msgspec.json.Decoder(Alert).decode


def alert_key(alert: Alert) -> bytes:
    """Return the record key, which the end of an episode shares with its beginning."""
    return _encoder.encode([alert.kind, list(alert.key), alert.since])


def encode_alert(alert: Alert) -> bytes:
    """Return the record value."""
    return _encoder.encode(alert)


def decode_alert(value: bytes) -> Alert:
    """Return the alert of a record value.

    Raises:
        RecordError: It is none.
    """
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RecordError(Reason.MALFORMED, f"not an alert: {exc}") from exc
