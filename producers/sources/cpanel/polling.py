"""What to ask one server next: windows of time, halved when an answer is incomplete.  Pure.

A *round* asks for a range of time window by window, oldest first.  Each complete window gives rows
and the checkpoint that is true once they are written, so a poller that was away for days catches up
in steps, and a crash costs one window.

A server that filters by ``actionunixtime``, when the attempt was made, is asked from the newest
attempt that was written, less an overlap for lines that reach its log out of order.  One that
ignores this filter is asked by ``sendunixtime``, when the message was sent.  Outcomes of messages
sent earlier are found by a *sweep* over the life of a message in Exim's queue, once an hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from producers.sources.cpanel.checkpoint import Checkpoint
from producers.sources.cpanel.rows import Row

OVERLAP_S: Final = 600
"""How much later than younger ones a row may appear."""
AHEAD_S: Final = 300
"""How far the server's clock may be ahead of ours without a delay."""
LIFE_S: Final = 4 * 86_400
"""Exim gives a message up after four days (``timeout_frozen_after``, retry rules)."""
SWEEP_EVERY_S: Final = 3600

FIRST_SPAN_S: Final = 3600
"""Length of the first window: wide ones keep many servers busy for tens of seconds."""
MAX_SPAN_S: Final = 32 * 86_400
"""A quiet server is asked about all its quiet days at once."""
CAP: Final = 1000
"""``max_results_by_type`` of a window."""
PAGING_CAP: Final = 10_000
"""The same, of a second that holds more."""
SILENT_CAP: Final = 250
"""Where some versions stop, whatever is asked."""
PAGE: Final = 250
"""Rows per page: no version gives fewer."""
MAX_PAGES: Final = PAGING_CAP // PAGE


class Clock(StrEnum):
    """The column that windows are asked by."""

    ACTION = "actionunixtime"
    SEND = "sendunixtime"


class FilterIgnoredError(Exception):
    """An answer holds rows from outside of the window: the server ignores the filter."""


class Window(NamedTuple):
    """One question: the rows of ``[start_s, end_s)`` by *clock*, seconds since the epoch."""

    clock: Clock
    start_s: int
    end_s: int
    first: int | None = None
    """Number of the first row wanted, counting from 1, where answers are read page by page."""

    @property
    def cap(self) -> int:
        """Return ``max_results_by_type``."""
        return CAP if self.first is None else PAGING_CAP


PROBE: Final = Window(Clock.ACTION, 1, 2)
"""A second in which no mail was sent: rows in the answer show that the filter is ignored."""


class Answer(NamedTuple):
    """What came back."""

    rows: Sequence[Row]
    overflowed: bool = False
    """WHM's own word that there was more."""
    malformed: int = 0
    """Rows that were no objects."""


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of one complete window, and where the poller stands once they are written."""

    rows: Sequence[Row]
    malformed: int
    checkpoint: Checkpoint
    paged: bool = False
    """It was one second with more rows than one answer holds."""
    incomplete: bool = False
    """Even its pages were cut short: rows may be missing."""


class Polling:
    """The course of one server; made anew from the log after every failure to write."""

    def __init__(self, clock: Clock, stored: Checkpoint | None, begin_s: int) -> None:
        """Go on at the *stored* checkpoint, or begin at *begin_s* where there is none."""
        self.clock = clock
        self.stored = stored
        """What the log holds."""
        self.checkpoint = stored or Checkpoint(begin_s, begin_s)
        if clock is Clock.ACTION:  # after a time of sweeps, what lies behind the last one is open
            self.checkpoint = self.checkpoint._replace(newest_s=self.checkpoint.swept_s)
        self.span_s = FIRST_SPAN_S
        """Length of the next window: as long as answers are complete."""
        self.most_s = MAX_SPAN_S
        """Longest window: less than what did not come in time, and a little more every round."""
        self._sweep_due_s: int | None = None

    @property
    def oldest_s(self) -> int:
        """Return the time, by the clock asked, before which no rows are asked for any more."""
        return oldest_asked_s(self.clock, self.checkpoint)

    def begin(self, now_s: int) -> Round:
        """Begin a round; until the first sweep is done, every round is a sweep."""
        position = self.checkpoint
        end_s = max(now_s, position.newest_s) + AHEAD_S
        sweeps = self.clock is Clock.SEND and (
            self._sweep_due_s is None or now_s >= self._sweep_due_s
        )
        if sweeps or self.clock is Clock.ACTION:
            start_s = self.oldest_s
        else:
            start_s = position.newest_s - OVERLAP_S
        return Round(self, start_s, end_s, now_s, sweeps=sweeps)

    def swept(self, now_s: int) -> None:
        """Note that a sweep that began at *now_s* is done."""
        self._sweep_due_s = now_s + SWEEP_EVERY_S


class Round:
    """One pass over a range of time."""

    def __init__(
        self, polling: Polling, start_s: int, end_s: int, now_s: int, *, sweeps: bool
    ) -> None:
        """Ask for ``[start_s, end_s)``, as of *now_s*."""
        self._polling = polling
        self._position_s = max(start_s, 0)
        self._end_s = end_s
        self._now_s = now_s
        self._sweeps = sweeps
        self._goal_s = polling.checkpoint.newest_s
        self._pages: list[Row] | None = None
        self._malformed = 0

    @property
    def window(self) -> Window | None:
        """Return what to ask next; None when the round is done."""
        if self._position_s >= self._end_s:
            return None
        end_s = min(self._position_s + self._polling.span_s, self._end_s)
        first = None if self._pages is None else len(self._pages) + self._malformed + 1
        return Window(self._polling.clock, self._position_s, end_s, first)

    def take(self, window: Window, answer: Answer) -> Found | None:
        """Take the answer to *window*; return its rows if they are complete.

        Raises:
            FilterIgnoredError: Rows in it are none of the window's.
        """
        require_inside(window, answer.rows)
        if window.first is not None:
            return self._take_page(window, answer)
        if not is_incomplete(answer, window.cap):
            self._lengthen(answer)
            return self._found(window, answer.rows, answer.malformed)
        if window.end_s - window.start_s > 1:
            self._shorten(window)
        else:
            self._pages = []
        return None

    def took_too_long(self, window: Window) -> None:
        """Ask for half of *window* next: its answer did not come in time."""
        self._shorten(window)
        self._polling.most_s = self._polling.span_s

    def _shorten(self, window: Window) -> None:
        """Ask for half of *window* next: its answer was incomplete."""
        self._polling.span_s = max(1, (window.end_s - window.start_s) // 2)

    def _lengthen(self, answer: Answer) -> None:
        """Ask for more at once, if twice as many rows would still be complete."""
        fullest = max(Counter(row.kind for row in answer.rows).values(), default=0)
        if 2 * fullest < SILENT_CAP:
            self._polling.span_s = min(2 * self._polling.span_s, self._polling.most_s)

    def _take_page(self, window: Window, answer: Answer) -> Found | None:
        pages = [*(self._pages or ()), *answer.rows]
        malformed = self._malformed + answer.malformed
        full = len(answer.rows) + answer.malformed >= PAGE
        if full and len(pages) < PAGE * MAX_PAGES:
            self._pages, self._malformed = pages, malformed
            return None
        self._pages, self._malformed = None, 0
        cut_short = full or is_incomplete(Answer(pages, answer.overflowed), window.cap)
        found = self._found(window, pages, malformed)
        return replace(found, paged=True, incomplete=cut_short)

    def _found(self, window: Window, rows: Sequence[Row], malformed: int) -> Found:
        self._position_s = window.end_s
        polling = self._polling
        before = polling.checkpoint
        if self._position_s >= self._end_s:
            polling.most_s = min(polling.most_s + polling.most_s // 16 + 1, MAX_SPAN_S)
        if self._sweeps:
            done = self._position_s >= self._end_s
            polling.checkpoint = before._replace(swept_s=self._goal_s) if done else before
            if done:
                polling.swept(self._now_s)
        else:
            times = (row.action_s for row in rows if row.action_s is not None)
            newest_s = max((at for at in times if at <= self._now_s), default=before.newest_s)
            newest_s = max(newest_s, before.newest_s)
            swept_s = newest_s if polling.clock is Clock.ACTION else before.swept_s
            polling.checkpoint = Checkpoint(newest_s, swept_s)
        return Found(rows, malformed, polling.checkpoint)


def oldest_asked_s(clock: Clock, checkpoint: Checkpoint) -> int:
    """Return the time, by *clock*, from which on rows may be asked for after *checkpoint*."""
    oldest_s = checkpoint.swept_s - OVERLAP_S
    return oldest_s if clock is Clock.ACTION else oldest_s - LIFE_S


def time_of(row: Row, clock: Clock) -> int | None:
    """Return the time of *row* by *clock*."""
    return row.action_s if clock is Clock.ACTION else row.send_s


def require_inside(window: Window, rows: Sequence[Row]) -> None:
    """Make sure that *rows* are of *window*; one without a time may be of any.

    Raises:
        FilterIgnoredError: One is not.
    """
    for row in rows:
        at_s = time_of(row, window.clock)
        if at_s is not None and not window.start_s <= at_s < window.end_s:
            raise FilterIgnoredError


def is_incomplete(answer: Answer, cap: int) -> bool:
    """Tell whether rows may be missing: WHM says so, or a type came back with a number that is a cap."""
    counts = Counter(row.kind for row in answer.rows)
    return answer.overflowed or any(
        count == SILENT_CAP or count >= cap for count in counts.values()
    )
