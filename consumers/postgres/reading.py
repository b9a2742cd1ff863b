"""Events out of PostgreSQL, as they were stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from psycopg import sql

from consumers.postgres.connection import connect, mapped_errors, one
from consumers.postgres.tables import EVENT_FIELDS, EVENTS
from pipeline.core.event import MailEvent
from pipeline.core.timestamp import rfc3339

CHUNK: Final = 5000
_FIELDS: Final = tuple(
    name for name in EVENT_FIELDS if name in MailEvent.__struct_fields__ and name != "received"
)


async def beginning_ms(dsn: str) -> int | None:
    """Return the time of the oldest event, or None if there is none.

    Raises:
        TransientError: PostgreSQL is away, or has no such table.
    """
    async with mapped_errors():
        connection = await connect(dsn, "mailstream-backfill")
        try:
            query = "SELECT (extract(epoch FROM min(time)) * 1000)::bigint FROM email_events"
            found: int | None = await one(connection, query)
            return found
        finally:
            await connection.close()


async def events(dsn: str, first_ms: int, end_ms: int) -> AsyncGenerator[MailEvent, None]:
    """Yield the events of [first, end), in no order, without ``received``.

    Raises:
        TransientError: PostgreSQL is away, or has no such table.
    """
    query = sql.SQL(
        "SELECT (extract(epoch FROM time) * 1000)::bigint, {} FROM {} "
        "WHERE time >= {} AND time < {}"
    ).format(
        sql.SQL(", ").join(map(sql.Identifier, _FIELDS)),
        sql.Identifier(EVENTS.name),
        sql.Literal(rfc3339(first_ms)),
        sql.Literal(rfc3339(end_ms)),
    )
    async with mapped_errors():
        connection = await connect(dsn, "mailstream-backfill", statement_timeout="0")
        try:
            async with (
                connection.transaction(),
                connection.cursor(name="mailstream_events") as cursor,
            ):
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor.itersize = CHUNK
                await cursor.execute(query)
                async for time_ms, *values in cursor:
                    yield MailEvent(
                        timestamp=rfc3339(time_ms), **dict(zip(_FIELDS, values, strict=True))
                    )
        finally:
            await connection.close()
