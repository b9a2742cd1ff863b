"""Turns: of many partitions that are ready, one computes in each turn of the event loop."""

from __future__ import annotations

import asyncio

from pipeline.transport.lane import Turn

LANES = 5


def test_others_have_their_turn_between_any_two_that_compute() -> None:
    async def scenario() -> list[int]:
        turn, computed = Turn(), []
        turns_of_others = 0

        async def compute() -> None:
            async with turn:
                computed.append(turns_of_others)

        lanes = asyncio.gather(*(compute() for _ in range(LANES)))
        while not lanes.done():
            turns_of_others += 1
            await asyncio.sleep(0)
        return computed

    computed = asyncio.run(scenario())
    assert len(set(computed)) == LANES, computed


def test_whoever_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    async def scenario() -> bool:
        turn = Turn()

        async def compute() -> bool:
            async with turn:
                return True

        first = asyncio.create_task(compute())
        await asyncio.sleep(0)  # it has the lock and waits for its turn of the loop
        waiting = asyncio.create_task(compute())
        await asyncio.sleep(0)
        last = asyncio.create_task(compute())
        first.cancel()
        waiting.cancel()
        return await last

    assert asyncio.run(asyncio.wait_for(scenario(), 10.0))
