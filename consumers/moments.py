"""Moments as records of topics for consumers tell them: text, seconds or milliseconds."""

from __future__ import annotations

from typing import Final

from pipeline.core.timestamp import epoch_ms

Moment = str | int | float
"""RFC 3339, or a number: from :data:`LEAST_MS` on milliseconds since the epoch, below seconds."""
LEAST_MS: Final = 100_000_000_000


def moment_ms(moment: Moment) -> int:
    """Return milliseconds since the epoch.

    Raises:
        RecordError: It is no time.
    """
    if not isinstance(moment, str) and moment >= LEAST_MS:
        moment = moment / 1000
    return epoch_ms(moment)
