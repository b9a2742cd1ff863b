"""The clocks: the machine's, and the one that tests turn."""

from __future__ import annotations

import asyncio
import time

from pipeline.kit.clock import SystemClock
from tests.kit.clock import FakeClock


def test_the_system_clock_tells_the_machines_time() -> None:
    clock = SystemClock()
    before, told, after = time.time(), clock.now_ms(), time.time()
    assert before - 0.001 <= told / 1000 <= after
    first = clock.monotonic()
    asyncio.run(clock.sleep(0))
    assert clock.monotonic() >= first


def test_sleepers_wake_in_order_at_their_own_time() -> None:
    async def scenario() -> list[tuple[str, int]]:
        clock = FakeClock(1000)
        woke: list[tuple[str, int]] = []

        async def sleeper(name: str, seconds: float, again: float) -> None:
            for wait in (seconds, again):
                await clock.sleep(wait)
                woke.append((name, clock.now_ms()))

        tasks = [asyncio.create_task(sleeper(*row)) for row in (("a", 2, 2), ("b", 1, 2))]
        await clock.advance(3)
        assert woke == [("b", 2000), ("a", 3000), ("b", 4000)]
        await clock.advance(1)
        await asyncio.gather(*tasks)
        return woke

    assert asyncio.run(scenario())[-1] == ("a", 5000)
