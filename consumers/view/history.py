"""A series as far back as anybody knows: the newest part from memory, the older one from PostgreSQL."""

from __future__ import annotations

from typing import Any, Final

from consumers.view.answers import Answers, RefusedError
from consumers.view.stored import Counts, Stored
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAMILY
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS

PANE_MS: Final = 5 * MINUTE_MS
"""Length of the panes that are stored."""
_STEPS: Final = ((2 * DAY_MS, PANE_MS), (60 * DAY_MS, HOUR_MS))
"""Up to which span a series has which step; what is longer is by the day."""
MOST_STEPS: Final = 4_000


class History:
    """Joins both parts where the memory begins: at the start of a pane, which is in one of them."""

    def __init__(self, answers: Answers, stored: Stored | None) -> None:
        """Answer from memory, and where that ends from *stored*, if there is such a store."""
        self._answers = answers
        self._stored = stored

    async def series(
        self, dimension: str, key: tuple[str, ...], from_ms: int | None, to_ms: int | None
    ) -> dict[str, Any]:
        """Return events by type over time, of one key or of all.

        Raises:
            RefusedError: The key has another number of fields, or nobody knows that time.
        """
        begins = self._answers.begins_ms
        if self._stored is None or from_ms is None or from_ms >= begins:
            return self._answers.series(dimension, key, from_ms, to_ms)
        now_ms = self._answers.now_ms
        to_ms = now_ms if to_ms is None else min(to_ms, now_ms)
        seam = -(-begins // PANE_MS) * PANE_MS
        # Before anything is waited for: meanwhile the oldest pane may leave the memory.
        newer = self._answers.counts(dimension, key, seam, to_ms)
        first = await self._first_ms(self._stored, dimension, from_ms, to_ms, seam)
        step = _step(to_ms - first)
        end = to_ms - to_ms % step + step
        first = max(first - first % step, end - MOST_STEPS * step)
        # The last pane is the one that *to* lies in, as in a series from memory.
        until = min(seam, to_ms - to_ms % PANE_MS + PANE_MS)
        older: Counts = {}
        if first < until:
            older = await self._stored.counts(dimension, key, PANE_MS, (first, until), step)
        held = _added(older, newer, step)
        return self._answers.told(
            dimension=dimension,
            key=dict(zip(FAMILY[dimension].labels, key, strict=True)) if key else None,
            step_s=step // 1000,
            times=[start // 1000 for start in range(first, end, step)],
            events={
                name: [held.get(start, {}).get(name, 0) for start in range(first, end, step)]
                for name in EVENT_TYPES
                if any(name in counted for counted in held.values())
            },
        )

    async def _first_ms(
        self, stored: Stored, dimension: str, from_ms: int, to_ms: int, seam: int
    ) -> int:
        """Return where the series begins: with what is stored, or in memory, if that is all."""
        oldest = await stored.oldest_ms(dimension, PANE_MS)
        if oldest is None:
            raise RefusedError(
                404,
                "not_stored",
                f"from: PostgreSQL has no panes of {dimension}, and the view does not hold that time",
            )
        first = max(from_ms, min(oldest, seam))
        if first > to_ms >= from_ms:
            raise RefusedError(404, "not_stored", "to: PostgreSQL has nothing that is so old")
        return first


def _step(span_ms: int) -> int:
    return next((step for longest, step in _STEPS if span_ms <= longest), DAY_MS)


def _added(older: Counts, newer: Counts, step: int) -> Counts:
    held: Counts = {start: dict(counted) for start, counted in older.items()}
    for start, counted in newer.items():
        sums = held.setdefault(start - start % step, {})
        for name, count in counted.items():
            sums[name] = sums.get(name, 0) + count
    return held
