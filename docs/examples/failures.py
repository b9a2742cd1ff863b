"""Count failures by provider and class over the last hour, and go on: ``python failures.py BOOTSTRAP``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from contextlib import aclosing

from consumers.expressions import compiled
from consumers.start import Since
from consumers.subscribe import subscribe
from pipeline.kit.settings_load import load


async def main(bootstrap: str) -> None:
    """Count until Ctrl-C."""
    settings = load(None, os.environ)
    hour_ago = Since(int(time.time() * 1000) - 3_600_000)
    failed = compiled("event_type in ['bounced', 'deferred', 'rejected'] and not is_probe")
    counts: Counter[tuple[str, str]] = Counter()
    async with aclosing(subscribe(settings, bootstrap, where=failed, start=hour_ago)) as events:
        async for event, _place in events:
            key = event.provider or "other", event.bounce_class or "unknown"
            counts[key] += 1
            print(*key, counts[key], flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
