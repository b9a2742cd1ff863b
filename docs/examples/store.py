"""Store every event in SQLite, in batches: ``python store.py BOOTSTRAP FILE``.

Start it as often as you like, on the same file: the processes share the work.  A batch that was
stored and not committed comes again after a crash, and the primary key makes that harmless.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import aclosing, closing

from consumers.start import Beginning
from consumers.subscribe import subscribe_batches
from pipeline.kit.settings_load import load

TABLE = """
CREATE TABLE IF NOT EXISTS events (
  source TEXT, event_id TEXT, timestamp TEXT, event_type TEXT, user TEXT, to_domain TEXT,
  PRIMARY KEY (source, event_id)
)
"""


async def main(bootstrap: str, file: str) -> None:
    """Store until Ctrl-C."""
    settings = load(None, os.environ)
    group = f"{settings.topics.prefix}store"
    stored = subscribe_batches(settings, bootstrap, group=group, start=Beginning())
    with closing(sqlite3.connect(file, timeout=30)) as database:
        database.execute(TABLE)
        async with aclosing(stored) as batches:
            async for batch in batches:
                rows = [
                    (e.source, e.event_id, e.timestamp, e.event_type, e.user, e.to_domain)
                    for e, _place in batch
                ]
                with database:
                    database.executemany("INSERT OR IGNORE INTO events VALUES (?,?,?,?,?,?)", rows)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
