"""The sink into PostgreSQL and TimescaleDB: rows and positions in one transaction.

Exactly once: a write locks the positions of its partitions, goes on only if they are those that
were last seen here, and moves them in the transaction of the rows.  So of two sinks, or of one and
its zombie, one writes; the other is told that the partition has moved, and reads on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from consumers.postgres.connection import Connection, checked, connect, mapped_errors
from consumers.postgres.migrations import Flavour, migrate
from consumers.postgres.rows import TOPICS
from consumers.postgres.storing import Writing, units_of
from consumers.postgres.upkeep import (
    Partitions,
    let_go,
    let_go_of_rejects,
    set_policies,
    sum_up,
)
from consumers.sinks.base import Item, Written
from pipeline.core.errors import ConfigError
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings

_UPKEEP: Final = "upkeep"
LET_GO_S: Final = 3600.0
LEAST_VERSION: Final = 130_000

_BEGIN: Final = """
INSERT INTO mailstream_offsets (topic, partition, next_offset)
SELECT %s, number, -1 FROM unnest(%s::integer[]) AS number ORDER BY number ON CONFLICT DO NOTHING"""
_POSITIONS: Final = """
SELECT partition, next_offset FROM mailstream_offsets WHERE topic = %s AND partition = ANY(%s)"""


class PostgresSink:
    """One process's way into the database: a connection per topic, and one for upkeep."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            ConfigError: The section is absent, or its ``dsn`` unusable.
        """
        given = settings.sinks.postgres
        if given is None:
            raise ConfigError(["sinks.postgres: expected this section, with dsn"])
        self._settings = given
        self._dsn = checked(given.dsn, "sinks.postgres.dsn")
        self._prefix = settings.topics.prefix
        self._clock = clock
        self._partitions = Partitions(given.retention)
        self._connections: dict[str, Connection] = {}
        self._at: dict[str, dict[int, int]] = {}
        """Where partitions go on, as last read from or written to the database; -1: nowhere yet."""
        self._flavour: Flavour = "plain"
        self._let_go_at = 0.0

    @property
    def topics(self) -> Collection[str]:
        """Return the topics that it stores, without prefix."""
        return TOPICS

    async def open(self) -> None:
        """Connect and migrate."""
        async with self._connected(_UPKEEP, statement_timeout="0") as connection:
            version = connection.info.server_version
            if version < LEAST_VERSION:
                raise ConfigError(
                    [f"PostgreSQL 13 or newer is needed, this is {version // 10_000}"]
                )
            self._flavour = await migrate(connection)
            if self._flavour == "timescale":
                await set_policies(connection, self._settings)
            else:
                await self._partitions.ahead(connection, self._clock.now_ms())

    async def positions(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """Return where partitions go on."""
        numbers = sorted(partitions)
        async with self._connected(topic) as connection:
            await connection.execute(_BEGIN, [topic, numbers])
            cursor = await connection.execute(_POSITIONS, [topic, numbers])
            found = dict(await cursor.fetchall())
        self._at.setdefault(topic, {}).update(found)
        return {number: offset for number, offset in found.items() if offset >= 0}

    async def write(self, topic: str, items: Sequence[Item]) -> Written:
        """Store *items* and the positions after them in one transaction."""
        # Off the loop: decoding some thousand records takes longer than others should wait.
        units = await asyncio.to_thread(units_of, topic.removeprefix(self._prefix), items)
        at = self._at[topic]
        plain = self._flavour == "plain"
        async with self._connected(topic) as connection:
            if plain:
                rows = [(row.table, row.time_ms) for unit in units for row in unit.rows]
                await self._partitions.make(connection, rows, self._clock.now_ms())
            async with connection.transaction():
                writing = Writing(connection, plain=plain)
                await writing.store(topic, units, at)
        for item in items:
            at[item.place.partition] = item.place.offset + 1
        return writing.written

    async def upkeep(self) -> None:
        """Make partitions ahead, sum up what is over, let go of what is too old."""
        now_ms, retention = self._clock.now_ms(), self._settings.retention
        due = self._clock.monotonic() >= self._let_go_at
        async with self._connected(_UPKEEP, statement_timeout="0") as connection:
            if self._flavour == "plain":
                await self._partitions.ahead(connection, now_ms)
                await sum_up(connection, now_ms)
                if due:
                    await let_go(connection, retention, now_ms)
            elif due:
                await let_go_of_rejects(connection, retention, now_ms)
        if due:
            self._let_go_at = self._clock.monotonic() + LET_GO_S

    async def close(self) -> None:
        """Disconnect."""
        while self._connections:
            await self._connections.popitem()[1].close()

    @asynccontextmanager
    async def _connected(
        self, name: str, *, statement_timeout: str = "5min"
    ) -> AsyncIterator[Connection]:
        """Yield the connection called *name*; after an error it is made anew next time."""
        async with mapped_errors():
            connection = self._connections.get(name)
            if connection is None:
                connection = await connect(
                    self._dsn, f"mailstream-{name}", statement_timeout=statement_timeout
                )
                self._connections[name] = connection
            try:
                yield connection
            except BaseException:
                # Whatever state it is in: a commit may have been cut off, its outcome unknown.
                self._connections.pop(name, None)
                await connection.close()
                raise
