"""Events and panes out of PostgreSQL, as they were stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any, Final

import msgspec
from psycopg import sql

from consumers.panes import Pane
from consumers.postgres.connection import connect, mapped_errors, one
from consumers.postgres.tables import EVENT_FIELDS, EVENTS, PANES, Table
from pipeline.core.event import MailEvent
from pipeline.core.timestamp import rfc3339

CHUNK: Final = 5000
_ALL: Final = sql.SQL("")
_FIELDS: Final = tuple(
    name for name in EVENT_FIELDS if name in MailEvent.__struct_fields__ and name != "received"
)

_PANE_FIELDS: Final = (
    "length_s", "family", "key", "event_type", "count", "recipients", "bytes", "partial",
)  # fmt: skip


async def beginning_ms(dsn: str, table: Table = EVENTS) -> int | None:
    """Return the time of the oldest row of *table*, or None if there is none.

    Raises:
        TransientError: PostgreSQL is away, or has no such table.
    """
    query = sql.SQL("SELECT (extract(epoch FROM min(time)) * 1000)::bigint FROM {}")
    async with mapped_errors():
        connection = await connect(dsn, "mailstream-backfill")
        try:
            found: int | None = await one(connection, query.format(sql.Identifier(table.name)))
            return found
        finally:
            await connection.close()


async def events(dsn: str, first_ms: int, end_ms: int) -> AsyncGenerator[MailEvent, None]:
    """Yield the events of [first, end), in no order, without ``received``.

    Raises:
        TransientError: PostgreSQL is away, or has no such table.
    """
    async for time_ms, *values in _rows(dsn, EVENTS, _FIELDS, first_ms, end_ms):
        yield MailEvent(timestamp=rfc3339(time_ms), **dict(zip(_FIELDS, values, strict=True)))


async def panes(
    dsn: str, first_ms: int, end_ms: int, families: Collection[str]
) -> AsyncGenerator[Pane, None]:
    """Yield the panes of these *families* that begin in [first, end), in no order.

    Raises:
        TransientError: PostgreSQL is away, or has no such table.
    """
    wanted = sql.SQL(" AND family = ANY({})").format(sql.Literal(list(families)))
    async for time_ms, *values in _rows(dsn, PANES, _PANE_FIELDS, first_ms, end_ms, wanted):
        fields = dict(zip(_PANE_FIELDS, values, strict=True))
        key = msgspec.Raw(msgspec.json.encode(fields.pop("key")))
        yield Pane(start=rfc3339(time_ms), key=key, **fields)


async def _rows(
    dsn: str,
    table: Table,
    fields: Sequence[str],
    first_ms: int,
    end_ms: int,
    wanted: sql.Composable = _ALL,
) -> AsyncGenerator[tuple[Any, ...], None]:
    """Yield time, and *fields*, of the rows of [first, end)."""
    query = sql.SQL(
        "SELECT (extract(epoch FROM time) * 1000)::bigint, {} FROM {} "
        "WHERE time >= {} AND time < {}{}"
    ).format(
        sql.SQL(", ").join(map(sql.Identifier, fields)),
        sql.Identifier(table.name),
        sql.Literal(rfc3339(first_ms)),
        sql.Literal(rfc3339(end_ms)),
        wanted,
    )
    async with mapped_errors():
        connection = await connect(dsn, "mailstream-backfill", statement_timeout="0")
        try:
            async with (
                connection.transaction(),
                connection.cursor(name="mailstream_rows") as cursor,
            ):
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor.itersize = CHUNK
                await cursor.execute(query)
                async for row in cursor:
                    yield row
        finally:
            await connection.close()
