"""Reading the header of a mail that may be ours: hostile, rewritten, re-encoded as it may be."""

from __future__ import annotations

import email.errors
from dataclasses import dataclass
from datetime import UTC
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from typing import Final

from producers.sources.probe.message import TOKEN_HEADER
from producers.sources.probe.token import Token, read_token

FIELDS: Final = (
    "SUBJECT",
    "MESSAGE-ID",
    TOKEN_HEADER.upper(),
    "RECEIVED",
    "IN-REPLY-TO",
    "REFERENCES",
    "AUTO-SUBMITTED",
    "CONTENT-TYPE",
)
"""What is fetched of a mail."""
MOST_BYTES: Final = 32 << 10
"""Of a header; beyond that nothing is read."""
_MOST_HOPS: Final = 50


@dataclass(frozen=True, slots=True)
class Header:
    """What a header tells."""

    token: Token
    hops_ms: tuple[int, ...]


def read_header(raw: bytes, key: bytes) -> Header | None:
    """Return what the header of one of our mails tells; None for any other mail.

    A token in the Message-ID, in our own header or in the subject will do, as gateways rewrite any
    of them.  An answer to our mail (an absence note, a bounce) quotes the token, and does not count.
    """
    header = BytesHeaderParser().parsebytes(raw[:MOST_BYTES])
    if _is_answer(header, key):
        return None
    for name in ("Message-ID", TOKEN_HEADER, "Subject"):
        for text in header.get_all(name, []):
            if (token := _token_in(text, key)) is not None:
                return Header(token, _hops(header))
    return None


def _is_answer(header: Message, key: bytes) -> bool:
    if str(header.get("Auto-Submitted", "")).strip().lower().startswith("auto-replied"):
        return True
    if header.get_content_type() == "multipart/report":
        return True
    quoted = [*header.get_all("In-Reply-To", []), *header.get_all("References", [])]
    return any(_token_in(text, key) is not None for text in quoted)


def _token_in(text: object, key: bytes) -> Token | None:
    decoded = _decoded(text)
    # What folded the line inside the token, put white space there.
    return read_token(key, decoded) or read_token(key, "".join(decoded.split()))


def _decoded(text: object) -> str:
    try:
        return str(make_header(decode_header(str(text))))
    except (email.errors.MessageError, ValueError, LookupError):
        return str(text)


def _hops(header: Message) -> tuple[int, ...]:
    """Return when each server took the mail, oldest first."""
    times = []
    for line in reversed(header.get_all("Received", [])[:_MOST_HOPS]):
        try:
            when = parsedate_to_datetime(str(line).rpartition(";")[2].strip())
            times.append(int(when.replace(tzinfo=when.tzinfo or UTC).timestamp() * 1000))
        except (ValueError, TypeError, OverflowError):
            continue
    return tuple(times)
