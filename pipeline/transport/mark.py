"""The mark: what the metadata of a committed offset says about its commit.

``1 <token> <commit_ms> <received_ms>``.  The token is unique per commit: a worker that finds its
own last mark on a partition knows that nobody else has committed there in between.  *commit_ms* is
the record time of what the commit wrote, by which its seen run is told from older ones of that end.
*received_ms* is the dedupe horizon's clock of the partition (see ``core.seen``), from which the
next owner knows how far back the seen ids matter.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class Mark:
    """Who committed, when, and how far the partition's ingest time had come."""

    token: str
    commit_ms: int
    received_ms: int

    @classmethod
    def now(cls, commit_ms: int, received_ms: int | None) -> Mark:
        """Return a new mark; without *received_ms* the commit's own time stands for it."""
        received = commit_ms if received_ms is None else min(received_ms, commit_ms)
        return cls(uuid.uuid4().hex, commit_ms, received)

    def encode(self) -> str:
        """Return the metadata text."""
        return f"{VERSION} {self.token} {self.commit_ms} {self.received_ms}"


def decode_mark(metadata: str) -> Mark | None:
    """Return the mark, or None for metadata that the pipeline did not write (a reset group)."""
    fields = metadata.split(" ")
    if len(fields) != 4 or fields[0] != VERSION:
        return None
    try:
        return Mark(fields[1], int(fields[2]), int(fields[3]))
    except ValueError:
        return None
