"""The recount of who is accountable for a mail, from the contracts alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def accountable(event: Mapping[str, Any]) -> str | None:
    """Return the accountable sender of an outbound event, or None where it can't be told."""
    if event.get("user"):
        return re.sub(r"\[.*\]$", "", event["user"])
    sender = event.get("from_user") or event.get("from_address") or event.get("from")
    if not sender:
        return None
    if "@" not in sender:
        if not event.get("from_domain"):
            return None
        sender = f"{sender}@{event['from_domain']}"
    return unwrapped(sender)


def unwrapped(address: str) -> str:
    """Return the address that SRS, BATV or VERP has wrapped.

    ``SRS0=hash=day=domain=local@forwarder``, ``prvs=tag=local@domain`` and
    ``local+recipient=its.domain@domain``.
    """
    srs = re.fullmatch(r"SRS0[=+-][^=]*=[^=]*=([^=]+)=(.+)@[^@]+", address, re.IGNORECASE)
    if srs:
        return f"{srs[2]}@{srs[1]}"
    batv = re.fullmatch(r"prvs=[^=]*=(.+@[^@]+)", address, re.IGNORECASE)
    if batv:
        return batv[1]
    verp = re.fullmatch(r"([^+]+)\+[^@]*=[^@=]+\.[^@=]+(@[^@]+)", address)
    return verp[1] + verp[2] if verp else address
