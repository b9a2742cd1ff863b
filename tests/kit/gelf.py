"""GELF as senders write it: chunks in both layouts, recorded samples."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAGIC = b"\x1e\x0f"
_SAMPLES = Path(__file__).parents[1] / "samples" / "gelf"


def standard_chunks(message: bytes, message_id: bytes, size: int) -> list[bytes]:
    """Return *message* cut as the format says: an id of eight bytes."""
    assert len(message_id) == 8
    return _cut(message, message_id, size)


def npm_chunks(message: bytes, message_id: int, size: int) -> list[bytes]:
    """Return *message* cut as the npm client does: the id is one byte."""
    return _cut(message, bytes([message_id]), size)


def npm_datagrams() -> list[bytes]:
    """Return what npm gelf 2.0.1 sent: a message in two chunks, then one in one datagram."""
    recorded = json.loads((_SAMPLES / "npm_datagrams.json").read_text())
    return [base64.b64decode(one) for one in recorded["datagrams"]]


def sample(name: str) -> dict[str, Any]:
    """Return the message called *name*, made after the emitters' source."""
    found: dict[str, Any] = json.loads((_SAMPLES / "messages.json").read_text())[name]
    return found


def captured() -> list[dict[str, Any]]:
    """Return messages that were captured from WildDuck 1.46.1."""
    found: list[dict[str, Any]] = json.loads((_SAMPLES / "wildduck.json").read_text())
    return found


def _cut(message: bytes, message_id: bytes, size: int) -> list[bytes]:
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return [
        MAGIC + message_id + bytes([number, len(parts)]) + part for number, part in enumerate(parts)
    ]


def numbered(count: int) -> Iterator[dict[str, Any]]:
    """Yield *count* distinct messages of an MTA about deliveries."""
    for number in range(count):
        yield {
            **sample("mta_accepted"),
            "_queue_id": f"{number:018x}",
            "_to": f"user{number}@example.net",
        }
