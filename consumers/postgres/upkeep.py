"""What a database without TimescaleDB needs from time to time: partitions, history, letting go.

Several sinks may do it at the same time.  Locks are taken in the order in which a write takes
them: the row of ``mailstream_kept``, the table, the rows of ``mailstream_changed``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import sql

from consumers.postgres.connection import Connection, one
from consumers.postgres.tables import EVENTS, TABLES, Table
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.core.timestamp import rfc3339
from pipeline.kit.settings_sinks import PostgresRetention, PostgresSettings

log = logging.getLogger(__name__)

AHEAD: Final = 2
"""Partitions that are made before anything belongs there."""
SETTLED_MS: Final = 5 * MINUTE_MS
"""How long after its end an hour or a day is summed up; it is summed up again if it changes."""
QUIET_S: Final = 60
MOST_STRETCHES: Final = 50
"""Summed up in one go."""
_LENGTH_MS: Final = {"hour": HOUR_MS, "day": DAY_MS}
_STORED: Final = {"hour": "mailstream_stored_hours", "day": "mailstream_stored_days"}
_LIVE: Final = {"hour": "mailstream_live_hours", "day": "mailstream_live_days"}
_VIEW: Final = {"hour": "email_events_hourly", "day": "email_events_daily"}
_PARTITIONS: Final = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(format('%%I.%%I', current_schema(), %s::text))"""
_DUE: Final = """
SELECT start FROM mailstream_changed WHERE step = %s AND start <= %s
AND last_change <= now() - make_interval(secs => %s) ORDER BY start LIMIT %s"""
_DATE: Final = re.compile(r"_(\d{8})\Z")


class Partitions:
    """Knows which partitions were made, and makes others."""

    def __init__(self, retention: PostgresRetention) -> None:
        """Make none for rows older than *retention*: they wait in the rest to be let go of."""
        self._retention = retention
        self._made: set[tuple[str, int]] = set()

    async def make(
        self, connection: Connection, wanted: Iterable[tuple[Table, int]], now_ms: int
    ) -> None:
        """Make those for rows of tables at times, as far as they are no wrong clock's."""
        starts = {(table, time // table.length_ms * table.length_ms) for table, time in wanted}
        for table, start in sorted(starts, key=lambda pair: (pair[0].name, pair[1])):
            oldest = now_ms - table.retention_ms(self._retention)
            newest = now_ms + AHEAD * table.length_ms
            if (table.name, start) in self._made or not oldest < start + table.length_ms:
                continue
            if start > newest:
                continue
            await connection.execute(
                "SELECT mailstream_make_partition(%s, %s, make_interval(days => %s))",
                [table.name, rfc3339(start), table.length_ms // DAY_MS],
            )
            self._made.add((table.name, start))

    async def ahead(self, connection: Connection, now_ms: int) -> None:
        """Make those that are needed next."""
        wanted = [
            (table, now_ms + number * table.length_ms)
            for table in TABLES
            for number in range(AHEAD + 1)
        ]
        await self.make(connection, wanted, now_ms)


async def sum_up(connection: Connection, now_ms: int, *, quiet_s: float = QUIET_S) -> int:
    """Sum up hours and days that are over and at rest; return how many."""
    done = 0
    for step, length in _LENGTH_MS.items():
        last = rfc3339(now_ms - length - SETTLED_MS)
        cursor = await connection.execute(_DUE, [step, last, quiet_s, MOST_STRETCHES])
        for (start,) in await cursor.fetchall():
            async with connection.transaction():
                done += await _sum_up(connection, step, start, wait=False)
    return done


async def _sum_up(connection: Connection, step: str, start: datetime, *, wait: bool) -> bool:
    """Replace what is stored of one stretch; its lock keeps writers of it out until the commit."""
    locked = await one(
        connection,
        b"SELECT 1 FROM mailstream_changed WHERE step = %s AND start = %s FOR UPDATE"
        + (b"" if wait else b" SKIP LOCKED"),
        [step, start],
    )
    if locked is None:
        return False
    names = {"stored": sql.Identifier(_STORED[step]), "live": sql.Identifier(_LIVE[step])}
    for statement in (
        sql.SQL("DELETE FROM {stored} WHERE time = {at}"),
        sql.SQL("INSERT INTO {stored} SELECT * FROM {live} WHERE time = {at}"),
    ):
        await connection.execute(statement.format(**names, at=sql.Literal(start)))
    await connection.execute(
        "DELETE FROM mailstream_changed WHERE step = %s AND start = %s", [step, start]
    )
    return True


async def let_go(connection: Connection, retention: PostgresRetention, now_ms: int) -> None:
    """Drop partitions and delete rows that are older than *retention*, history first."""
    for table in TABLES:
        length = table.length_ms
        cutoff_ms = (now_ms - table.retention_ms(retention)) // length * length
        await _let_go_of_rows(connection, table, cutoff_ms)
    for step, kept in (("hour", retention.hourly), ("day", retention.daily)):
        if kept is not None:
            await _let_go_of_history(connection, step, (now_ms - kept) // DAY_MS * DAY_MS)
    await let_go_of_rejects(connection, retention, now_ms)


async def let_go_of_rejects(
    connection: Connection, retention: PostgresRetention, now_ms: int
) -> None:
    """Delete records that were put aside long ago."""
    await connection.execute(
        "DELETE FROM mailstream_rejects WHERE rejected < %s", [rfc3339(now_ms - retention.rejects)]
    )


async def _let_go_of_rows(connection: Connection, table: Table, cutoff_ms: int) -> None:
    cutoff = datetime.fromtimestamp(cutoff_ms / 1000, UTC)
    cursor = await connection.execute(_PARTITIONS, [table.name])
    old = [name for (name,) in await cursor.fetchall() if _end_ms(name, table) <= cutoff_ms]
    rest = sql.Identifier(f"{table.name}_rest")
    async with connection.transaction():
        await _raise_kept(connection, table.name, cutoff)
        if table is EVENTS:
            await _sum_up_before(connection, "hour", cutoff)
        for name in old:
            await connection.execute(
                sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name))
            )
        await connection.execute(sql.SQL("DELETE FROM {} WHERE time < %s").format(rest), [cutoff])
    if old:
        log.info("old rows were let go of", extra={"table": table.name, "partitions": len(old)})


async def _let_go_of_history(connection: Connection, step: str, cutoff_ms: int) -> None:
    cutoff = datetime.fromtimestamp(cutoff_ms / 1000, UTC)
    async with connection.transaction():
        await _raise_kept(connection, _VIEW[step], cutoff)
        if step == "hour":
            await _sum_up_before(connection, "day", cutoff)
        stored = sql.Identifier(_STORED[step])
        await connection.execute(sql.SQL("DELETE FROM {} WHERE time < %s").format(stored), [cutoff])


async def _raise_kept(connection: Connection, name: str, cutoff: datetime) -> None:
    """Say that older rows may be gone; waits for writes that rely on what it said before."""
    await connection.execute(
        "UPDATE mailstream_kept SET kept_from = greatest(kept_from, %s) WHERE name = %s",
        [cutoff, name],
    )


async def _sum_up_before(connection: Connection, step: str, cutoff: datetime) -> None:
    cursor = await connection.execute(
        "SELECT start FROM mailstream_changed WHERE step = %s AND start < %s ORDER BY start",
        [step, cutoff],
    )
    for (start,) in await cursor.fetchall():
        await _sum_up(connection, step, start, wait=True)


def _end_ms(partition: str, table: Table) -> float:
    """Return where a partition ends, by its name; the rest never does."""
    date = _DATE.search(partition)
    if date is None:
        return float("inf")
    first = datetime.strptime(date[1], "%Y%m%d").replace(tzinfo=UTC)
    return first.timestamp() * 1000 + table.length_ms


async def set_policies(connection: Connection, settings: PostgresSettings) -> None:
    """Tell TimescaleDB what to compress, sum up and let go of, as configured now."""
    kept = settings.retention
    for table in TABLES:
        await _policy(connection, "compression", table.name, settings.compress_after)
        await _policy(connection, "retention", table.name, table.retention_ms(kept))
    for view, ms in ((_VIEW["hour"], kept.hourly), (_VIEW["day"], kept.daily)):
        # Shorter than the rows are kept, or summing up again would find none and forget them.
        back = min(30 * DAY_MS, kept.events - DAY_MS)
        await connection.execute(
            "SELECT remove_continuous_aggregate_policy(%s::regclass, if_exists => true)", [view]
        )
        await connection.execute(
            "SELECT add_continuous_aggregate_policy(%s::regclass, "
            "start_offset => make_interval(secs => %s), end_offset => interval '10 minutes', "
            "schedule_interval => interval '10 minutes')",
            [view, back / 1000],
        )
        await _policy(connection, "retention", view, ms)


async def _policy(connection: Connection, kind: str, relation: str, ms: int | None) -> None:
    after: Any = {"compression": "compress_after", "retention": "drop_after"}[kind]
    remove = sql.SQL("SELECT {}(%s::regclass, if_exists => true)")
    await connection.execute(remove.format(sql.Identifier(f"remove_{kind}_policy")), [relation])
    if ms is not None:
        add = sql.SQL("SELECT {}(%s::regclass, {} => make_interval(secs => %s))")
        names = sql.Identifier(f"add_{kind}_policy"), sql.Identifier(after)
        await connection.execute(add.format(*names), [relation, ms / 1000])
