"""What a sink is: a store that keeps, beside what it stores, where each partition goes on.

A sink that writes records and their positions in one step of its store stores every record
exactly once, whatever is killed.  The positions in the store are the truth; what Kafka's group
remembers is only for its tools to show.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from consumers.place import Place
from pipeline.core.errors import MailstreamError, Reason


@dataclass(frozen=True, slots=True)
class Item:
    """One record of a topic."""

    place: Place
    time_ms: int
    """When it was written to Kafka."""
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Refused(StrEnum):
    """Why a store did not take a record as it is, beside the reasons of every component."""

    STORE = "refused_by_store"


Why = Reason | Refused


@dataclass(slots=True)
class Written:
    """What became of some records."""

    rows: dict[str, int] = field(default_factory=dict)
    """How many rows, by table or whatever the store calls it."""
    rejected: dict[Why, int] = field(default_factory=dict)
    """Records that were put aside, with the reason, where an operator finds them."""


class MovedError(MailstreamError):
    """A partition does not go on where we thought: another process has written it."""


class Sink(Protocol):
    """A store.

    All of it may raise ``TransientError``: the store is away or full, and the same call is made
    again later.  Whatever a record holds is no error: what cannot be stored is put aside.
    """

    @property
    def topics(self) -> Collection[str]:
        """Return the topics that it stores, without prefix."""

    async def open(self) -> None:
        """Connect, and bring the store to the form that this program expects."""

    async def positions(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Return the offset at which each of *partitions* goes on; none where nothing was stored.

        What is written later of these partitions must follow on that.
        """

    async def write(self, topic: str, items: Sequence[Item]) -> Written:
        """Store *items* of one topic and the positions after them, in one step.

        Raises:
            MovedError: The positions in the store are not those that were last seen here; nothing
                was stored.
        """

    async def upkeep(self) -> None:
        """Do what is due from time to time: make room ahead, let go of what is too old."""

    async def close(self) -> None:
        """Disconnect; a write that has not ended is undone."""
