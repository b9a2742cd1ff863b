"""Records without a log."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.core.batch import Record


@dataclass(frozen=True)
class Plain:
    """A record as aiokafka's parser makes it."""

    offset: int
    value: bytes = b""
    key: bytes | None = None
    timestamp: int = 0
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def records(start: int, count: int) -> list[Record]:
    """Return empty records of consecutive offsets."""
    return [Plain(offset) for offset in range(start, start + count)]
