"""Connections to PostgreSQL, and its errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import AsyncConnection, conninfo, errors
from psycopg.rows import TupleRow
from pydantic import SecretStr

from pipeline.core.errors import ConfigError, TransientError

Connection: TypeAlias = AsyncConnection[TupleRow]

CONNECT_S: Final = 10
_OPTIONS: Final[dict[str, str | int]] = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "client_encoding": "UTF8",
}
_SESSION: Final = (
    "SELECT set_config('TimeZone', 'UTC', false), set_config('lock_timeout', '30s', false), "
    "set_config('statement_timeout', %s, false), "
    # A process that is frozen within a transaction must not keep others from the partition.
    "set_config('idle_in_transaction_session_timeout', '30s', false)"
)

REFUSED: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,  # JSON that is nested too deep
    UnicodeEncodeError,
)
"""What PostgreSQL, or its driver, says about a value; the same value is refused again."""


def checked(dsn: SecretStr, key: str) -> str:
    """Return the connection string *dsn* with what we add to it.

    Raises:
        ConfigError: It is none; the message does not repeat it.
    """
    try:
        return conninfo.make_conninfo(dsn.get_secret_value(), **_OPTIONS)
    except psycopg.ProgrammingError:  # its text repeats a part, which may be the password
        raise ConfigError(
            [f"{key}: expected a connection string such as postgresql://user@host/database"]
        ) from None


@asynccontextmanager
async def mapped_errors() -> AsyncIterator[None]:
    """Turn errors of PostgreSQL that leave the block into ``TransientError``.

    Also those that an operator must do something about: rights or a full disk come and go while a
    sink runs, and it waits for them.
    """
    try:
        yield
    except psycopg.Error as exc:
        raise TransientError(f"PostgreSQL: {said(exc)}") from exc
    except (OSError, TimeoutError) as exc:
        raise TransientError(f"PostgreSQL: {type(exc).__name__}: {exc}") from exc


def said(error: BaseException) -> str:
    """Return PostgreSQL's message without what it quotes of a row, and its code."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return f"{error.diag.message_primary} ({error.sqlstate})"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


async def connect(dsn: str, name: str, *, statement_timeout: str = "5min") -> Connection:
    """Return a connection that commits each statement unless it is in a transaction.

    Raises:
        psycopg.Error: PostgreSQL does not answer or refuses us.
    """
    async with asyncio.timeout(2 * CONNECT_S):
        made: Connection = await AsyncConnection.connect(
            dsn, autocommit=True, application_name=name
        )
    try:
        await made.execute(_SESSION, [statement_timeout])
    except BaseException:
        await made.close()
        raise
    return made


async def one(connection: Connection, query: Any, params: Any = None) -> Any:
    """Return the first column of the first row, or None."""
    row = await (await connection.execute(query, params)).fetchone()
    return None if row is None else row[0]
