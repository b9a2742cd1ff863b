"""Bringing a database to the schema of this program: numbered files, each once, in order.

A file may come in two flavours, of which a database gets one and keeps it: ``timescale`` where the
extension was there when the tables were made, else ``plain``.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from importlib import resources
from typing import Final, Literal, cast

from consumers.postgres.connection import Connection, one
from pipeline.core.errors import ConfigError

log = logging.getLogger(__name__)

Flavour = Literal["plain", "timescale"]

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS mailstream_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    flavour text NOT NULL,
    checksum text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)"""
_LOCK: Final = (
    "SELECT pg_advisory_xact_lock(hashtext('mailstream migrations ' || current_schema()))"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    flavour: str
    """``plain`` or ``timescale``; empty: it is the same for both."""
    text: str

    @property
    def checksum(self) -> str:
        """Return what tells whether it was changed."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(flavour: Flavour) -> list[Migration]:
    """Return all of a flavour, in order."""
    found = []
    for file in (resources.files("consumers.postgres") / "sql").iterdir():
        stem, _, suffix = file.name.partition(".")
        kind = suffix.rpartition(".")[0]
        if kind in ("", flavour):
            number, _, name = stem.partition("_")
            found.append(Migration(int(number), name, kind, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(connection: Connection, *, up_to: int | None = None) -> Flavour:
    """Apply what is missing, in one transaction; of processes that start together one does it.

    Args:
        connection: To the database.
        up_to: The last migration to apply; None: all.

    Raises:
        ConfigError: The database was made by a newer program, or by files that are not ours.
    """
    async with connection.transaction():
        if await one(connection, "SELECT current_schema()") is None:
            raise ConfigError(["sinks.postgres.dsn: its search path names no schema that exists"])
        await connection.execute(_LOCK)
        await connection.execute(_TABLE)
        flavour = await _flavour(connection)
        ours = {migration.number: migration for migration in migrations(flavour)}
        cursor = await connection.execute("SELECT number, checksum FROM mailstream_migrations")
        applied: dict[int, str] = dict(await cursor.fetchall())
        _check(applied, ours)
        for number, migration in ours.items():
            if number not in applied and (up_to is None or number <= up_to):
                await _apply(connection, migration, flavour)
    return flavour


async def _apply(connection: Connection, migration: Migration, flavour: Flavour) -> None:
    await connection.execute(migration.text.encode())
    await connection.execute(
        "INSERT INTO mailstream_migrations (number, name, flavour, checksum) VALUES (%s, %s, %s, %s)",
        [migration.number, migration.name, flavour, migration.checksum],
    )
    log.info(
        "the database was migrated", extra={"number": migration.number, "migration": migration.name}
    )


async def _flavour(connection: Connection) -> Flavour:
    known = await one(connection, "SELECT flavour FROM mailstream_migrations ORDER BY number DESC")
    if known is not None:
        return cast("Flavour", known)
    extension = await one(connection, "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
    return "plain" if extension is None else "timescale"


def _check(applied: dict[int, str], ours: dict[int, Migration]) -> None:
    newer = max(applied, default=0)
    if newer > max(ours):
        raise ConfigError(
            [
                (
                    f"the database is at migration {newer}, this program knows {max(ours)}: "
                    "update mailstream"
                )
            ]
        )
    for number, checksum in applied.items():
        if ours[number].checksum != checksum:
            raise ConfigError(
                [
                    (
                        f"migration {number} of the database is not this program's: use the release "
                        "that made it, or another schema"
                    )
                ]
            )
