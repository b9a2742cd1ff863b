"""Dead letters: what could not be used, with the reason and without addresses.

No key is at hand here to hash with, so every local part becomes ``***``.
"""

from __future__ import annotations

import re
from typing import Final

from pipeline.core.batch import OutRecord, Record, TopicPartition

MAX_ERROR: Final = 500
"""Characters of the header ``error``."""

_NOT_LOCAL: Final = b' \t\r\n"<>(),:;[]\\@' + bytes(range(0x20)) + b"\x7f"
_LOCAL: Final = bytes(set(range(256)) - set(_NOT_LOCAL))
_QUOTED: Final = re.compile(rb'\\?"[^"@]{0,254}\\?"\Z')
"""A quoted local part (RFC 5321 4.1.2), its quotes escaped as JSON has them or not."""


def redact(text: bytes) -> bytes:
    """Return *text* with the local part of every mail address replaced; linear in its length."""
    *before, last = text.split(b"@")
    if not before:
        return text
    return b"@".join([*(_without_local(part) for part in before), last])


def _without_local(part: bytes) -> bytes:
    if part.endswith(b'\\"'):
        quoted = _QUOTED.search(part, max(0, len(part) - 256))
        if quoted:
            return part[: quoted.start()] + b"***"
    return part.rstrip(_LOCAL) + b"***"


def dead_letter(tp: TopicPartition, record: Record, source: str, error: str) -> OutRecord:
    """Return the record for ``mail.dead``."""
    words = redact(error.encode("utf-8", "replace")[: 4 * MAX_ERROR]).decode("utf-8", "replace")
    headers = (
        ("error", words[:MAX_ERROR].encode()),
        ("source", source.encode()),
        ("topic", tp.topic.encode()),
        ("partition", str(tp.partition).encode()),
        ("offset", str(record.offset).encode()),
    )
    return OutRecord(redact(record.value or b""), record.key, headers)
