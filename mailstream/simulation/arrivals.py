"""When things happen in a simulation: at random, more by day than by night.  Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Final

from pipeline.core.pane import DAY_MS, HOUR_MS

PEAK_HOUR: Final = 14
SWING: Final = 0.6
"""The busiest hour (UTC) has 1 + SWING times the mean rate, the quietest 1 - SWING times."""


def diurnal(at_ms: int) -> float:
    """Return the rate at this time of day (UTC), relative to the mean of a day."""
    hour = at_ms % DAY_MS / HOUR_MS
    return 1.0 + SWING * math.cos(2 * math.pi * (hour - PEAK_HOUR) / 24)


def arrivals(rng: random.Random, start_ms: int, end_ms: float, rate: float) -> Iterator[int]:
    """Yield the times of arrivals in ``[start_ms, end_ms)``, ms since the epoch, in order.

    Args:
        rng: What they are drawn with.
        start_ms: When it begins.
        end_ms: When it ends; may be infinite.
        rate: Arrivals per second, mean over a day.
    """
    at: float = start_ms
    while True:
        at += rng.expovariate(rate / 1000 * (1 + SWING))
        if at >= end_ms:
            return
        if rng.random() * (1 + SWING) < diurnal(int(at)):
            yield int(at)
