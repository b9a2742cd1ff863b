"""Codes in what a remote server said.

A reply begins with its code and enhanced status (RFC 5321 4.2, RFC 3463), unless the MTA put words
before it: Exim's ``SMTP error from remote mail server after RCPT TO:<x>: 550 5.1.1 ...``, Postfix's
``host x said: 550 ...``.  Only the first 250 characters are searched: those words name a host, its
address and the recipient.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SEARCHED: Final = 250
PREFIX: Final = 14
"""Longest code and status at the start, and the character behind: ``550-5.999.999 ``."""


class Codes(NamedTuple):
    """Reply code and enhanced status, where the text has them."""

    code: int | None
    status: str | None


_STATUS: Final = r"([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)"
_AT_START: Final = re.compile(rf"\s*(?:([245]\d\d)(?:[ -]+|$))?#?(?:{_STATUS})?", re.ASCII)
_LATER: Final = re.compile(rf"(?:[:\]>] *|said:? *)([45][0-7]\d)[ -]+#?(?:{_STATUS})?", re.ASCII)
_STATUS_ONLY: Final = re.compile(rf"(?<![\d.]){_STATUS}", re.ASCII)


def codes_at_start(text: str) -> Codes:
    """Return the codes that *text* begins with; its first :data:`PREFIX` characters are enough."""
    start = _AT_START.match(text)
    assert start is not None  # every part of the pattern is optional
    return Codes(int(start[1]) if start[1] else None, start[2])


def codes(text: str) -> Codes:
    """Return the codes in *text*."""
    head = text[:SEARCHED]
    code, status = codes_at_start(head)
    if code is None:
        later = _LATER.search(head)
        if later:
            code, status = int(later[1]), later[2] or status
    if status is None:
        found = _STATUS_ONLY.search(head)
        status = found[1] if found else None
    return Codes(code, status)


def status_of(text: str | None) -> str | None:
    """Return an enhanced status as posted, or None if it is not one."""
    found = _STATUS_ONLY.fullmatch(text.strip()) if text else None
    return found[1] if found else None
