"""Running a worker process: uvloop, our signals, our logs; nothing of Faust's command line."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import uvloop

from pipeline.kit.service import Part, serve

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""A batch is some 100,000 objects without cycles.  Python's own thresholds walk through them again
and again, for 40 % of the engine's CPU time."""


def run_worker(build: Callable[[], Awaitable[Sequence[Part]]]) -> None:
    """Run the parts that *build* returns, the engine among them, until SIGTERM or SIGINT.

    *build* is called in the event loop, where the engine must be made.

    Raises:
        MailstreamError: A part failed, or did not stop in time.
    """

    async def main() -> None:
        parts = await build()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await serve(parts)

    uvloop.run(main())
