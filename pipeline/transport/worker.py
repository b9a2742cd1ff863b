"""Running a worker process: uvloop, our signals, our logs; nothing of Faust's command line."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Final

import uvloop

from pipeline.kit.service import Part, serve

COLLECT_S: Final = 10.0
FULL_EVERY: Final = 30
"""Of so many collections one looks at old objects too."""


class Collection:
    """Python's cyclic collector, by the clock instead of by allocations; a part of the process.

    A batch is some 100,000 objects without cycles, which die by their reference counts.  The
    collector's own thresholds walk through them again and again: 3 of 16 µs an event.
    """

    name = "collection"

    async def start(self) -> None:
        """Take over; what is there by now stays and is never looked at again."""
        gc.collect()
        gc.freeze()
        gc.disable()

    async def run(self) -> None:
        """Collect every :data:`COLLECT_S` until cancelled."""
        for number in count(1):
            await asyncio.sleep(COLLECT_S)
            gc.collect(2 if number % FULL_EVERY == 0 else 1)

    async def stop(self) -> None:
        """Give back."""
        gc.enable()
        gc.unfreeze()


def run_worker(build: Callable[[], Awaitable[Sequence[Part]]]) -> None:
    """Run the parts that *build* returns, the engine among them, until SIGTERM or SIGINT.

    *build* is called in the event loop, where the engine must be made.

    Raises:
        MailstreamError: A part failed, or did not stop in time.
    """

    async def main() -> None:
        await serve([*await build(), Collection()])

    uvloop.run(main())
