"""Migrations on a real PostgreSQL, from each version; TimescaleDB's as far as can be without it."""

from __future__ import annotations

import asyncio
import re
from typing import Any, get_args

import psycopg
import pytest

from consumers.postgres.migrations import Flavour, Migration, migrate, migrations
from consumers.postgres.tables import TABLES
from consumers.postgres.upkeep import set_policies
from pipeline.core.errors import ConfigError
from tests.kit.postgres import Database
from tests.kit.sink import event, items, made, settings, stored

pytestmark = pytest.mark.integration

LAST = migrations("plain")[-1].number
SHAPE = """
SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
AND c.relname !~ '_[0-9]{8}' ORDER BY 1, a.attnum"""


async def at_version(database: Database, number: int | None) -> None:
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        await migrate(connection, up_to=number)


async def used(database: Database, first: int) -> None:
    sink = made(database.dsn)
    await sink.open()
    await stored(sink, items([event(first)], first=first))
    await sink.upkeep()
    await sink.close()


def test_numbers_are_one_after_the_other_in_both_flavours() -> None:
    for flavour in get_args(Flavour):
        found = migrations(flavour)
        assert [one.number for one in found] == list(range(1, LAST + 1))
        assert {one.flavour for one in found} == {"", flavour}


@pytest.mark.parametrize("number", range(LAST + 1))
def test_a_database_of_any_version_becomes_the_newest(database: Database, number: int) -> None:
    if number:
        asyncio.run(at_version(database, number))
        assert database.value("SELECT max(number) FROM mailstream_migrations") == number
    asyncio.run(used(database, 0))
    asyncio.run(used(database, 1))
    assert database.count("mailstream_migrations") == LAST
    assert database.count("email_events") == 2
    assert {name for name, *_ in database.rows(SHAPE)} >= {table.name for table in TABLES}
    for table in TABLES:
        columns = [column for name, _, column, *_ in database.rows(SHAPE) if name == table.name]
        assert set(columns) == set(table.columns)


def test_many_that_start_together_migrate_once(database: Database) -> None:
    async def together() -> None:
        sinks = [made(database.dsn) for _ in range(5)]
        await asyncio.gather(*(sink.open() for sink in sinks))
        for sink in sinks:
            await sink.close()

    asyncio.run(together())
    assert database.count("mailstream_migrations") == LAST


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (f"INSERT INTO mailstream_migrations VALUES ({LAST + 1}, 'x', 'plain', '')", "update"),
        ("UPDATE mailstream_migrations SET checksum = 'x' WHERE number = 2", "migration 2"),
    ],
)
def test_a_database_that_is_not_ours_is_left_alone(
    database: Database, change: str, told: str
) -> None:
    asyncio.run(at_version(database, None))
    with psycopg.connect(database.dsn) as connection:
        connection.execute(change.encode())
    before = database.rows(SHAPE)
    with pytest.raises(ConfigError, match=told):
        asyncio.run(used(database, 0))
    assert database.rows(SHAPE) == before


def test_a_migration_that_fails_leaves_nothing_behind(database: Database) -> None:
    database.rows("CREATE TABLE panes_daily ()")
    with pytest.raises(psycopg.errors.DuplicateTable):
        asyncio.run(at_version(database, None))
    assert database.value("SELECT to_regclass('email_events') IS NULL")


# -- TimescaleDB: its functions stood for by ones that note their calls, its own syntax taken out

STUBS = """
CREATE TABLE calls (name text, relation text, more text);
CREATE FUNCTION create_hypertable(relation regclass, by name, chunk_time_interval interval)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO calls VALUES ('create_hypertable', relation::text, chunk_time_interval::text) $$;
CREATE FUNCTION time_bucket(width interval, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$ SELECT date_bin(width, at, '2000-01-03Z') $$;
"""
POLICIES = {
    "compression": "compress_after interval",
    "retention": "drop_after interval",
    "continuous_aggregate": "start_offset interval, end_offset interval, schedule_interval interval",
}
OPTIONS = re.compile(
    r"EXECUTE format\('ALTER TABLE %I SET \(timescaledb\.compress.*?\);", re.DOTALL
)
CONTINUOUS = "WITH (timescaledb.continuous, timescaledb.materialized_only = false) "


def stubs() -> str:
    return STUBS + "".join(
        f"CREATE FUNCTION add_{name}_policy(relation regclass, {arguments}) RETURNS void "
        f"LANGUAGE sql AS $$ INSERT INTO calls VALUES ('add_{name}_policy', relation::text) $$;"
        f"CREATE FUNCTION remove_{name}_policy(relation regclass, if_exists boolean) RETURNS void "
        f"LANGUAGE sql AS $$ INSERT INTO calls VALUES ('remove_{name}_policy', relation::text) $$;"
        for name, arguments in POLICIES.items()
    )


def without_extension(migration: Migration) -> str:
    """Return the text with what only the extension's parser takes cut out, each of it once known."""
    text = migration.text
    if migration.flavour:
        text, options = OPTIONS.subn("", text)
        assert options == 1
        assert text.replace("\n", " ").count(CONTINUOUS) == 2
        text = text.replace(CONTINUOUS.rstrip(), "").replace("WITH NO DATA", "WITH DATA")
    return text


@pytest.fixture
def as_timescale(database: Database) -> Database:
    """Return a database after TimescaleDB's migrations."""
    with psycopg.connect(database.dsn) as connection:
        connection.execute(stubs().encode())
        for migration in migrations("timescale"):
            connection.execute(without_extension(migration).encode())
    return database


def same(database: Database) -> list[tuple[Any, ...]]:
    """Return names and types of the columns of the history."""
    views = "email_events_hourly", "email_events_daily"
    return [(name, *rest[:2]) for name, _, *rest in database.rows(SHAPE) if name in views]


def test_every_table_is_a_hypertable_and_the_views_have_the_same_columns(
    as_timescale: Database, postgres: Any
) -> None:
    calls = as_timescale.rows("SELECT relation FROM calls WHERE name = 'create_hypertable'")
    assert {relation for (relation,) in calls} == {table.name for table in TABLES}
    with postgres.database() as plain:
        asyncio.run(at_version(plain, None))
        assert same(plain) == same(as_timescale)


def test_what_is_summed_up_is_what_the_plain_views_show(
    as_timescale: Database, postgres: Any
) -> None:
    events = [event(number, recipients=number % 3 or None) for number in range(50)]
    with postgres.database() as plain:

        async def store() -> None:
            sink = made(plain.dsn)
            await sink.open()
            await stored(sink, items(events))
            await sink.close()

        asyncio.run(store())
        rows = plain.rows("SELECT * FROM email_events")
        marks = ", ".join(["%s"] * len(rows[0]))
        with psycopg.connect(as_timescale.dsn) as connection:
            for row in rows:
                connection.execute(f"INSERT INTO email_events VALUES ({marks})".encode(), row)
            for view in ("email_events_hourly", "email_events_daily"):
                connection.execute(f"REFRESH MATERIALIZED VIEW {view}".encode())
        for view in ("email_events_hourly", "email_events_daily"):
            query = f"SELECT * FROM {view} ORDER BY 1, 2, 7, 9"
            assert as_timescale.rows(query) == plain.rows(query)


def test_policies_are_set_for_every_table_as_configured(as_timescale: Database) -> None:
    given = settings(as_timescale.dsn, retention={"daily": "1000d"}).sinks.postgres
    assert given is not None

    async def twice() -> None:
        async with await psycopg.AsyncConnection.connect(
            as_timescale.dsn, autocommit=True
        ) as connection:
            for _ in range(2):
                await set_policies(connection, given)

    asyncio.run(twice())
    names = {table.name for table in TABLES}
    views = {"email_events_hourly", "email_events_daily"}
    for policy, wanted in (
        ("compression", names),
        ("retention", names | views),
        ("continuous_aggregate", views),
    ):
        for verb in ("add", "remove"):
            found = as_timescale.rows(
                "SELECT relation, count(*) FROM calls WHERE name = %s GROUP BY 1",
                f"{verb}_{policy}_policy",
            )
            assert dict(found) == dict.fromkeys(wanted, 2), (verb, policy)
