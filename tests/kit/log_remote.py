"""ZoneMTA's ``log.remote``: recorded datagrams, and a writer of its old MessagePack."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any, Final, NamedTuple

SAMPLE_ID: Final = b"1a1fb6f862e000f66e"
"""The queue id in the sample ``ACCEPTED``."""
SAMPLES_AT_MS: Final = 1_795_219_944_425
SAMPLES_NODE: Final = "192.0.2.9"
_SAMPLES = Path(__file__).parents[1] / "samples" / "zonemta" / "log_remote.json"


class Sample(NamedTuple):
    """One entry as it was sent."""

    datagram: bytes
    event: dict[str, Any] | None
    """What the plugin makes of the same entry, if it is an event."""


class Undefined:
    """JavaScript's ``undefined``."""


def samples() -> dict[str, Sample]:
    """Return all samples by name."""
    recorded = json.loads(_SAMPLES.read_text())
    return {
        name: Sample(base64.b64decode(one["datagram"]), one["event"])
        for name, one in recorded.items()
    }


def numbered(count: int) -> list[bytes]:
    """Return datagrams of *count* deliveries of different mails."""
    datagram = samples()["ACCEPTED"].datagram
    return [datagram.replace(SAMPLE_ID, b"%018x" % number) for number in range(count)]


_CONSTANTS: Final = {None: b"\xc0", False: b"\xc2", True: b"\xc3"}


def written(value: Any) -> bytes:
    """Return *value* as msgpack-js writes it."""
    if isinstance(value, Undefined):
        return b"\xc4"
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list):
        parts = [written(part) for part in value]
        return _sized(0xDC, len(value)) + b"".join(parts)
    if isinstance(value, dict):
        parts = [written(part) for pair in value.items() for part in pair]
        return _sized(0xDE, len(value)) + b"".join(parts)
    text = value if isinstance(value, bytes) else value.encode()
    return _sized(0xD8 if isinstance(value, bytes) else 0xDA, len(text)) + text


def _sized(code: int, size: int) -> bytes:
    return struct.pack(">BH", code, size)


def _number(value: Any) -> bytes:
    if isinstance(value, float) or not -(1 << 31) <= value < 1 << 31:
        return struct.pack(">Bd", 0xCB, value)
    if 0 <= value < 0x80:
        return bytes([value])
    return struct.pack(">Bi", 0xD2, value) if value < 0 else struct.pack(">BI", 0xCE, value)
