"""Erasing a person from PostgreSQL: the rows that name them, in every table of the sink.

A user's rows go, from the history too.  A recipient is in the history only as a number among
others, which stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from consumers.postgres.connection import Connection, connect, mapped_errors, one
from pipeline.core.errors import ConfigError, MailstreamError

_USER: Final = ("user", "login", "auth_user", "from_user", "from_address")
_TEXTS: Final = ("response_message", "error_message", "error_code", "extra")
_BEFORE: Final = r"(^|[^[:alnum:]._%+-])"
_AFTER: Final = r"\.?($|[^[:alnum:]._-])"
_UNLIMITED: Final = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name = 'timescaledb.max_tuples_decompressed_per_dml_transaction'"""
"""TimescaleDB refuses to touch more than 100,000 compressed rows; a person may have written more."""
_HISTORY: Final = ("mailstream_stored_hours", "mailstream_stored_days")


@dataclass(frozen=True, slots=True)
class Person:
    """Whom to forget, in every spelling in which something may be stored of them."""

    user_names: Collection[str] = ()
    """Lower case; as a sender or an account."""
    recipients: Collection[tuple[str, str]] = ()
    """Local part, hashed or not, and domain; lower case."""
    quotable: Collection[str] = ()
    """Addresses and hashes that texts may quote; lower case, found as whole words."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows of one table."""

    table: str
    rows: int


async def forget(dsn: str, person: Person, *, act: bool) -> list[Erased]:
    """Erase *person*, all of it in one transaction; without *act* only count.

    Raises:
        ConfigError: The database was not made by a sink of ours.
        TransientError: PostgreSQL is away or refuses us.
    """
    async with mapped_errors():
        connection = await connect(dsn, "mailstream-forget", statement_timeout="0")
        try:
            return await _forget(connection, person, act=act)
        finally:
            await connection.close()


async def _forget(connection: Connection, person: Person, *, act: bool) -> list[Erased]:
    known = await one(connection, "SELECT to_regclass('mailstream_migrations')::text")
    if known is None:
        raise ConfigError(["sinks.postgres.dsn: this database has no tables of mailstream"])
    flavour = await one(connection, "SELECT flavour FROM mailstream_migrations LIMIT 1")
    found = []
    async with connection.transaction():
        await connection.execute(_UNLIMITED)
        for table, where in _conditions(person, await _history(connection, flavour)):
            erase = sql.SQL("DELETE FROM {} WHERE {}" if act else "SELECT FROM {} WHERE {}")
            cursor = await connection.execute(erase.format(table, where))
            found.append(Erased(table.as_string(connection).replace('"', ""), cursor.rowcount))
    return found


async def _history(connection: Connection, flavour: str) -> list[sql.Composable]:
    """Return the tables behind the views of the history."""
    if flavour == "plain":
        return [sql.Identifier(name) for name in _HISTORY]
    cursor = await connection.execute(
        "SELECT materialization_hypertable_schema, materialization_hypertable_name "
        "FROM timescaledb_information.continuous_aggregates "
        "WHERE view_schema = current_schema() ORDER BY view_name"
    )
    tables: list[sql.Composable] = [sql.Identifier(*row) for row in await cursor.fetchall()]
    if not tables:
        raise MailstreamError("TimescaleDB names no continuous aggregates of this schema")
    return tables


def _conditions(
    person: Person, history: Collection[sql.Composable]
) -> Iterator[tuple[sql.Composable, sql.Composable]]:
    names = sql.Literal(list(person.user_names))
    quoted = sql.Literal([f"{_BEFORE}{re.escape(one)}{_AFTER}" for one in person.quotable])
    fields = [f'"{re.escape(name)}"' for name in person.user_names]
    events = [
        sql.SQL("lower({}) = ANY({}::text[])").format(sql.Identifier(column), names)
        for column in _USER
    ]
    events += [
        sql.SQL("(lower(to_hash) = {0} AND lower(to_domain) = {1})").format(
            sql.Literal(local), sql.Literal(domain)
        )
        for local, domain in person.recipients
    ]
    addresses = [f"{local}@{domain}" for local, domain in person.recipients]
    events.append(sql.SQL("lower(to_user) = ANY({}::text[])").format(sql.Literal(addresses)))
    events += [
        sql.SQL("lower({}::text) ~ ANY({}::text[])").format(sql.Identifier(column), quoted)
        for column in _TEXTS
    ]
    yield sql.Identifier("email_events"), sql.SQL(" OR ").join(events)
    yield (
        sql.Identifier("panes"),
        sql.SQL(
            "EXISTS (SELECT FROM jsonb_array_elements_text(key) k WHERE lower(k) = ANY({}::text[]))"
        ).format(names),
    )
    for table in history:
        yield table, sql.SQL('lower("user") = ANY({}::text[])').format(names)
    yield (
        sql.Identifier("mailstream_rejects"),
        sql.SQL("lower(encode(value, 'escape')) ~ ANY({}::text[] || {}::text[])").format(
            quoted, sql.Literal(fields)
        ),
    )
