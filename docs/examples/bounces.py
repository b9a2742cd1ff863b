"""Print every bounce as it happens: ``python bounces.py BOOTSTRAP``."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing

from consumers.filters import having
from consumers.subscribe import subscribe
from pipeline.kit.settings_load import load


async def main(bootstrap: str) -> None:
    """Follow until Ctrl-C."""
    settings = load(None, os.environ)
    bounces = subscribe(settings, bootstrap, where=having(event_type={"bounced", "expired"}))
    async with aclosing(bounces) as events:
        async for event, place in events:
            answer = event.response_message or "-"
            print(place.offset, event.user, event.to_domain, answer, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
