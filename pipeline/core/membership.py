"""Which events a family counts, and which of them tell how much was accepted for sending."""

from __future__ import annotations

from typing import Final

from pipeline.core.event import MailEvent
from pipeline.core.families import Mail

ARRIVED: Final = frozenset({"inbox", "junk"})
"""Outcomes of probes that arrived in time."""

SOURCES_WITHOUT_SENT: Final = frozenset({"cpanel"})
"""Sources that report outcomes only: their recipients and bytes are taken from outcomes."""


def counts_volume(source: str, event_type: str) -> bool:
    """Tell whether an event of this kind adds to recipients and bytes."""
    if source in SOURCES_WITHOUT_SENT:
        return event_type in ("delivered", "bounced")
    return event_type == "sent"


def is_of(mail: Mail, event: MailEvent) -> bool:
    """Tell whether one event is of *mail*, its event type apart; batches have ``Columns.scope``."""
    if mail in {Mail.CUSTOMER, Mail.ACCEPTED}:
        customer = event.direction == "outbound" and not event.is_dsn and not event.is_probe
        if mail is Mail.CUSTOMER:
            return customer
        return customer and counts_volume(event.source or "", event.event_type or "")
    return mail is not Mail.ARRIVED or event.outcome in ARRIVED
