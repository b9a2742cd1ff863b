"""Panes: the equal slices of event time that every window is added up from.

A *pane* is the half-open interval ``[start, start + length)``, named by its start and
aligned to the Unix epoch, never to the first event seen: two workers, or one worker
before and after a restart, must give the same pane the same name.

Deltas carry base panes (10 s).  A window is shown from panes of the length that
:func:`pane_length` gives: 10 s up to 5 minutes, 1 minute up to 1 hour, 5 minutes up to a day.

Pure: reads no clock, does no I/O.
"""

from __future__ import annotations

from typing import Final

BASE_PANE_MS: Final = 10_000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

LATE_AFTER_MS: Final = DAY_MS
"""An event this much older than its ingest time is written but shown in no window."""
FUTURE_AFTER_MS: Final = 5 * MINUTE_MS
"""An event this much newer than its ingest time gets the ingest time as event time."""

_TIERS: Final = ((5 * MINUTE_MS, BASE_PANE_MS), (HOUR_MS, MINUTE_MS), (DAY_MS, 5 * MINUTE_MS))


def pane_of(event_ms: int, length_ms: int = BASE_PANE_MS) -> int:
    """Return the start of the pane of *length_ms* that holds *event_ms*."""
    return event_ms - event_ms % length_ms


def pane_length(window_ms: int) -> int:
    """Return g(w), the length of the panes that the window is made of.

    Raises:
        ValueError: The window is not a positive multiple of g(w), or longer than a day.
    """
    for longest, length in _TIERS:
        if window_ms <= longest:
            if window_ms <= 0 or window_ms % length:
                raise ValueError(f"a window of {window_ms} ms is not made of {length} ms panes")
            return length
    raise ValueError(f"a window of {window_ms} ms is longer than 24 h")


def panes_of_window(now_ms: int, window_ms: int) -> range:
    """Return the starts of the panes that the window shows at *now_ms*, oldest first.

    The open pane counts: with ``p = pane_of(now_ms, g)`` these are the panes whose start
    lies in ``(p - window, p]``.

    Raises:
        ValueError: As :func:`pane_length`.
    """
    length = pane_length(window_ms)
    newest = pane_of(now_ms, length)
    return range(newest - window_ms + length, newest + 1, length)


def window_label(window_ms: int) -> str:
    """Return the value of the label ``window``: ``90s``, ``5m``, ``24h``; a day stays in hours."""
    for unit, length in (("h", HOUR_MS), ("m", MINUTE_MS)):
        if window_ms % length == 0:
            return f"{window_ms // length}{unit}"
    return f"{window_ms // 1000}s"
