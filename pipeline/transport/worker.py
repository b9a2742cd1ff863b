"""Running a worker process: uvloop, our signals, our logs; nothing of Faust's command line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import uvloop

from pipeline.kit.service import Part, serve


def run_worker(build: Callable[[], Awaitable[Sequence[Part]]]) -> None:
    """Run the parts that *build* returns, the engine among them, until SIGTERM or SIGINT.

    *build* is called in the event loop, where the engine must be made.

    Raises:
        MailstreamError: A part failed, or did not stop in time.
    """

    async def main() -> None:
        await serve(await build())

    uvloop.run(main())
