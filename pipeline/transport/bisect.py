"""A record on which the pure part raises is found by bisection and set aside.

Such an exception is a bug of ours.  It must neither lose the batch nor stop the worker in a
loop, so the batch is cut in halves, each in a transaction of its own, down to the record.  The
pure part changes its state only on commit, so the halves see what the whole would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from pipeline.core.batch import Record
from pipeline.core.errors import InvariantError

_Work = TypeVar("_Work")

MINUTE_S: Final = 60.0


class Piece(NamedTuple):
    """The records of log positions ``[start, end)``."""

    records: Sequence[Record]
    start: int
    end: int

    def halves(self) -> tuple[Piece, Piece]:
        """Cut between two records; there must be two."""
        middle = len(self.records) // 2
        cut = self.records[middle].offset
        return Piece(self.records[:middle], self.start, cut), Piece(
            self.records[middle:], cut, self.end
        )


class Desk(Protocol[_Work]):
    """Who computes and commits pieces."""

    async def compute(self, piece: Piece) -> _Work:
        """Turn a piece into what is to be committed; raises on a bad record."""

    async def commit(self, work: _Work) -> None:
        """Commit what was computed."""

    def set_aside(self, record: Record, error: Exception) -> _Work:
        """Turn one bad record into a dead letter.

        Raises:
            InvariantError: There are too many of them.
        """


async def settle(desk: Desk[_Work], piece: Piece) -> None:
    """Commit *piece*, in one transaction, or in as many as a bad record makes necessary.

    Raises:
        InvariantError: The step's own state is broken, or too many records are bad.
    """
    left = [piece]
    while left:
        part = left.pop()
        try:
            work = await desk.compute(part)
        except InvariantError:
            raise
        except Exception as exc:
            if len(part.records) > 1:
                left.extend(reversed(part.halves()))
                continue
            if not part.records:
                raise InvariantError(f"the step failed without a record: {exc!r}") from exc
            work = desk.set_aside(part.records[0], exc)
        await desk.commit(work)


class PoisonRate:
    """Counts bad records and says when they are too many to be exceptions."""

    def __init__(self, per_minute: int) -> None:
        """Allow *per_minute* records in any 60 s."""
        self._per_minute = per_minute
        self._times: deque[float] = deque()
        self._newest: int | None = None

    def count(self, now: float, offset: int) -> bool:
        """Count the record at *offset* at monotonic time *now*, in seconds.

        Returns:
            Whether it is another one; else its commit failed, and it was read again.

        Raises:
            InvariantError: This one is one too many.
        """
        if offset == self._newest:
            return False
        while self._times and self._times[0] <= now - MINUTE_S:
            self._times.popleft()
        if len(self._times) >= self._per_minute:
            raise InvariantError(
                f"more than {self._per_minute} records a minute raised in the pure part"
            )
        self._times.append(now)
        self._newest = offset
        return True
