"""One GELF payload to its fields: unpacked within a limit, decoded, and checked for the format.

Pure.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from pipeline.core import gelf
from pipeline.core.errors import Reason, RecordError

VERSION: Final = "1.1"

_PLAIN: Final = b"{"
_GZIP: Final = b"\x1f\x8b"
_ANY_HEADER: Final = 32 + zlib.MAX_WBITS
"""zlib's or gzip's, whichever is there."""
_LOOK_AT: Final = 1 << 18
"""Bytes that are unpacked to see whether a payload is whole; a larger one is taken for it."""


def unpack(payload: bytes, limit: int) -> bytes:
    """Return the JSON of a payload; no more than *limit* bytes are ever held.

    Raises:
        RecordError: It is packed in no way of GELF's, broken, or larger than *limit*.
    """
    if payload[:1] == _PLAIN:
        if len(payload) > limit:
            raise RecordError(Reason.TOO_LARGE, f"larger than {limit} bytes")
        return payload
    if not begins_message(payload):
        raise RecordError(Reason.MALFORMED, "neither JSON nor packed with zlib or gzip")
    stream = zlib.decompressobj(_ANY_HEADER)
    try:
        text = stream.decompress(payload, limit + 1)
    except zlib.error as exc:
        raise RecordError(Reason.MALFORMED, "the packing is broken") from exc
    if len(text) > limit:
        raise RecordError(Reason.TOO_LARGE, f"larger than {limit} bytes")
    if not stream.eof:
        raise RecordError(Reason.MALFORMED, "the packing is cut short")
    return text


def fields_of(text: bytes, *, strict: bool) -> dict[str, Any]:
    """Return the fields of a message.

    The npm client writes version 1.0, and other senders leave out version or host: all that is
    taken unless *strict*.

    Raises:
        RecordError: It is no JSON object, has no text, or breaks the format where that counts.
    """
    fields = gelf.decode(text)
    if not isinstance(fields.get("short_message"), str):
        raise RecordError(Reason.MISSING_FIELD, "short_message is required")
    if strict:
        if fields.get("version") != VERSION:
            raise RecordError(Reason.INVALID_FIELD, f"version is not {VERSION}")
        if not fields.get("host") or not isinstance(fields["host"], str):
            raise RecordError(Reason.MISSING_FIELD, "host is required")
    return fields


def begins_message(payload: bytes) -> bool:
    """Tell whether a message may begin so: packed with zlib or gzip, or plain JSON."""
    return payload[:1] == _PLAIN or payload[:2] == _GZIP or _is_zlib(payload)


def is_whole(payload: bytes) -> bool:
    """Tell whether a payload that may begin a message also ends as one."""
    if payload[:1] == _PLAIN:
        return payload.rstrip(b"\0 \r\n").endswith(b"}")
    stream = zlib.decompressobj(_ANY_HEADER)
    try:
        stream.decompress(payload, _LOOK_AT)
    except zlib.error:
        return False
    return stream.eof or bool(stream.unconsumed_tail)


def _is_zlib(payload: bytes) -> bool:
    """Tell whether it begins with a header of zlib (RFC 1950, 2.2)."""
    return (
        len(payload) > 1
        and payload[0] & 0x0F == 8
        and payload[0] >> 4 <= 7
        and int.from_bytes(payload[:2]) % 31 == 0
    )
