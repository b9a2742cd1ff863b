"""A sink that nobody ships: this one file and a row are all that a new store takes."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from consumers.place import Place
from consumers.sinks.base import Item, MovedError, Written
from consumers.sinks.registry import SinkRow
from mailstream.sink import serve
from pipeline.core.errors import Reason
from pipeline.kit.clock import Clock, SystemClock
from pipeline.kit.log import setup
from pipeline.kit.settings import Settings
from pipeline.kit.settings_base import Listener
from pipeline.kit.settings_load import load

_TABLES = """
CREATE TABLE IF NOT EXISTS events (place TEXT, value TEXT);
CREATE TABLE IF NOT EXISTS refused (place TEXT, value BLOB);
CREATE TABLE IF NOT EXISTS positions (topic TEXT, number INT, at INT, PRIMARY KEY (topic, number))
"""


class SqliteSink:
    """Keeps events in a file of SQLite."""

    topics = ("events",)

    def __init__(self, settings: Settings, clock: Clock) -> None:
        del clock
        self._path = settings.data_dir / "events.sqlite"
        self._database: sqlite3.Connection | None = None
        self._at: dict[int, int] = {}

    async def open(self) -> None:
        """Make the file and its tables."""
        self._database = sqlite3.connect(self._path)
        self._database.executescript(_TABLES)

    async def positions(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Return what the file says."""
        found = self._held(topic)
        self._at.update({number: found.get(number, -1) for number in partitions})
        return {number: at for number, at in found.items() if number in partitions}

    async def write(self, topic: str, items: Sequence[Item]) -> Written:
        """Store values and positions in one transaction."""
        assert self._database is not None
        written = Written()
        with self._database as transaction:
            transaction.execute("BEGIN IMMEDIATE")
            held = self._held(topic)
            ends = {one.place.partition: one.place.offset + 1 for one in items}
            if any(held.get(number, -1) != self._at[number] for number in ends):
                raise MovedError(topic)
            for one in items:
                self._store(transaction, one, written)
            for number, at in ends.items():
                row = topic, number, at
                transaction.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", row)
        self._at.update(ends)
        return written

    def _store(self, transaction: sqlite3.Connection, item: Item, written: Written) -> None:
        place = _spelt(item.place)
        try:
            text = item.value.decode()
        except UnicodeDecodeError:
            transaction.execute("INSERT INTO refused VALUES (?, ?)", (place, item.value))
            written.rejected[Reason.MALFORMED] = written.rejected.get(Reason.MALFORMED, 0) + 1
        else:
            transaction.execute("INSERT INTO events VALUES (?, ?)", (place, text))
            written.rows["events"] = written.rows.get("events", 0) + 1

    def _held(self, topic: str) -> dict[int, int]:
        assert self._database is not None
        query = "SELECT number, at FROM positions WHERE topic = ?"
        return dict(self._database.execute(query, (topic,)).fetchall())

    async def upkeep(self) -> None:
        """Nothing is due."""

    async def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()


def _spelt(place: Place) -> str:
    return f"{place.partition}:{place.offset}"


ROW = SinkRow(
    "sqlite", "Keep events in a file.", f"{__spec__.name}:SqliteSink", lambda _: Listener()
)

if __name__ == "__main__":
    given = load(Path(sys.argv[1]), {})
    setup(ROW.process)
    asyncio.run(serve(ROW, given, given.kafka.bootstrap_servers or "", SystemClock()))
