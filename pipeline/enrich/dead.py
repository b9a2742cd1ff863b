"""Dead letters: what could not be used, with the reason and without addresses.

No key is at hand here to hash with, so every local part becomes ``***``.
"""

from __future__ import annotations

import re
from typing import Final

from pipeline.core.batch import OutRecord, Record, TopicPartition
from pipeline.core.topics import MAX_MESSAGE_BYTES

MAX_ERROR: Final = 500
"""Characters of the header ``error``."""
MAX_VALUE: Final = MAX_MESSAGE_BYTES // 2
"""Bytes of the value: the marks may make it longer than the record was."""

_SIGN: Final = re.compile(
    rb"([@%&\\\xef](?:(?<=@)|(?<=%)40|(?<=&)#(?:64|[xX]40);|(?<=\\)u0040|(?<=\xef)(?:\xbc\xa0|\xb9\xab)))"
)
"""The sign of an address, also escaped for links, HTML and JSON, and in its wide forms."""

_NOT_LOCAL: Final = b' "<>(),:;[]\\' + bytes(range(0x20)) + b"\x7f"
_LOCAL: Final = bytes(set(range(256)) - set(_NOT_LOCAL))
_LONGEST_QUOTED: Final = 256
_QUOTED: Final = re.compile(rb'\\?"[^"@]*\\?"\Z')
"""A quoted local part (RFC 5321 4.1.2), its quotes escaped as JSON has them or not."""


def redact(text: bytes) -> bytes:
    """Return *text* with the local part of every mail address replaced; linear in its length."""
    parts = _SIGN.split(text)
    parts[:-1:2] = [_without_local(part) for part in parts[:-1:2]]
    return b"".join(parts)


def _without_local(part: bytes) -> bytes:
    if part.endswith(b'"'):
        start = max(0, len(part) - _LONGEST_QUOTED)
        quoted = _QUOTED.search(part, start)
        return part[: quoted.start() if quoted else start] + b"***"
    return part.rstrip(_LOCAL) + b"***"


def dead_letter(tp: TopicPartition, record: Record, source: str, error: str) -> OutRecord:
    """Return the record for ``mail.dead``; a value that no topic would take is cut."""
    words = redact(error.encode("utf-8", "replace")[: 4 * MAX_ERROR]).decode("utf-8", "replace")
    headers = (
        ("error", words[:MAX_ERROR].encode()),
        ("source", source.encode()),
        ("topic", tp.topic.encode()),
        ("partition", str(tp.partition).encode()),
        ("offset", str(record.offset).encode()),
    )
    return OutRecord(redact(record.value or b"")[:MAX_VALUE], record.key, headers)
