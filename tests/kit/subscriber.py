"""A member of a consumer group as a process of its own: notes every event that it has handled.

``python -m tests.kit.subscriber CONFIG GROUP FILE``
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

from consumers.start import Beginning
from consumers.subscribe import subscribe
from pipeline.kit.log import setup
from pipeline.kit.settings_load import load


async def note(config: Path, group: str, file: Path) -> None:
    """Write the id of each event to *file*, and on it goes."""
    settings = load(config, {})
    bootstrap = settings.kafka.bootstrap_servers
    assert bootstrap is not None
    events = subscribe(settings, bootstrap, group=group, start=Beginning())
    with file.open("ab", buffering=0) as noted:
        async with aclosing(events):
            async for event, _place in events:
                noted.write(f"{event.event_id}\n".encode())


if __name__ == "__main__":
    setup("subscriber")
    asyncio.run(note(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
