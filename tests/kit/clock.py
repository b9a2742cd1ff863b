"""A clock that stands still until a test turns it."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeClock:
    """A ``Clock`` under the test's hand; sleepers wake in the order of their time."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._elapsed_ms = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.slept: list[float] = []
        """Every wait asked for, in seconds."""

    def now_ms(self) -> int:
        return self._now_ms + int(self._elapsed_ms)

    def monotonic(self) -> float:
        return self._elapsed_ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        future = asyncio.get_running_loop().create_future()
        due = self._elapsed_ms + seconds * 1000
        heapq.heappush(self._sleepers, (due, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let *seconds* pass, waking each sleeper at its own time."""
        target = self._elapsed_ms + seconds * 1000
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, future = heapq.heappop(self._sleepers)
            self._elapsed_ms = max(self._elapsed_ms, due)
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._elapsed_ms = target

    def set(self, now_ms: int) -> None:
        """Step the wall clock, as an operator or NTP may; no sleeper wakes."""
        self._now_ms = now_ms - int(self._elapsed_ms)

    @staticmethod
    async def _settle() -> None:
        """Let every task that can run now do so."""
        for _ in range(10):
            await asyncio.sleep(0)
