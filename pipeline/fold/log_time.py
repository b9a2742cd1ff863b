"""The time that the log proves: records were written then, and since then time went on.

Pure: reads no clock.
"""

from __future__ import annotations


class LogTime:
    """The time of the newest record, going on by a clock that nobody sets.

    A wall clock that went ahead makes panes old too soon; this time does not follow it, nor does it
    stand still where no more records come.
    """

    def __init__(self) -> None:
        """Prove nothing yet."""
        self._written_ms = 0
        self._ahead_ms = -(1 << 62)
        """By how much this time is ahead of the monotonic clock."""

    def hear(self, written_ms: int) -> None:
        """Note when a record was written."""
        self._written_ms = max(self._written_ms, written_ms)

    def at(self, now_ms: int, monotonic_ms: int) -> int:
        """Return the time in ms, at most the wall clock's *now_ms*; 0 before the first record."""
        self._ahead_ms = max(self._ahead_ms, self._written_ms - monotonic_ms)
        return min(now_ms, self._ahead_ms + monotonic_ms)
