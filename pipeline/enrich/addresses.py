"""Domains, IP addresses and mail addresses in one spelling each.

Pure functions of one text; callers cache them.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final

from pipeline.core.event import RESERVED_VALUES
from pipeline.core.loose import text as loose_text

_PSEUDONYM: Final = re.compile(r"[0-9a-f]{16}")


def domain(text: str | None) -> str | None:
    """Return *text* in lower case without a trailing dot; IDNA is kept as given.

    None if nothing is left, or a value that the exporter keeps for itself.
    """
    name = (text or "").strip().lower().removesuffix(".")
    return name if name and name not in RESERVED_VALUES else None


def mail_address(text: str | None) -> str | None:
    """Return *text* without angle brackets and with its domain as :func:`domain` gives it.

    The empty path of a DSN (``<>``) is the empty string; None stays None.  A text without ``@``
    is a local part alone, and stays as it is.
    """
    if text is None:
        return None
    path = text.strip()
    if path.startswith("<") and path.endswith(">"):
        path = path[1:-1].strip()
    local, at, host = path.rpartition("@")
    if not at:
        return path
    name = domain(host)
    return f"{local}@{name}" if local and name else None


def ip(text: str | None) -> str | None:
    """Return the canonical form of an IP address; IPv4 mapped into IPv6 is IPv4.

    The unspecified address names no host and is None; a pseudonym in the place of an address
    stays as it is.
    """
    if not text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return None if address.is_unspecified else str(address)


def given_ip(value: object, *, or_pseudonym: bool = False) -> str | None:
    """Return an IP address without its zone, or the pseudonym that privacy put in its place; else None."""
    given = loose_text(value).strip()
    try:
        return str(ip_address(given.partition("%")[0]))
    except ValueError:
        return given if or_pseudonym and _PSEUDONYM.fullmatch(given) else None
