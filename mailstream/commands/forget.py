"""``forget``: erases a person from the stores, and says what Kafka still holds, and until when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from mailstream.commands.common import configurable, log_as, settings, show_table

if TYPE_CHECKING:
    from consumers.postgres.forgetting import Person
    from pipeline.kit.settings import Settings
    from producers.privacy import Privacy

_SILENT: Final = frozenset({"checkpoints", "seen", "raw.node"})
"""Topics that name neither users nor recipients."""


@click.command(short_help="Erase a user or recipient from the stores.")
@configurable
@click.option("--user", help="An account or sender, such as alice@example.com.")
@click.option("--recipient", help="An address that mail went to; it is found by its keyed hash.")
@click.option("--dry-run", is_flag=True, help="Count what would be erased, and erase nothing.")
def forget(user: str | None, recipient: str | None, dry_run: bool) -> None:
    """Erase a user or recipient from the stores, and name what stays in Kafka until when."""
    if (user is None) == (recipient is None):
        raise click.UsageError("give --user or --recipient")
    from pipeline.kit.clock import SystemClock
    from producers.privacy_rules import privacy_rules

    log_as("forget", logging.WARNING)
    given = settings()
    _check_key(given)
    person = _person(privacy_rules(given), user, recipient)
    _erase(given, person, dry_run=dry_run)
    click.echo("Kafka cannot erase single records; it lets go of them by age, at the latest:")
    show_table(("topic", "until"), _kept(given, SystemClock().now_ms()))
    click.echo(
        "a replay or a sink that starts anew meanwhile would bring them back: erase again then"
    )


def _check_key(given: Settings) -> None:
    """Refuse to look for hashes of a key that was made this moment.

    Raises:
        ConfigError: There is no key here.
    """
    from pipeline.core.errors import ConfigError
    from pipeline.kit.privacy_key import FILE_NAME

    path = given.data_dir / FILE_NAME
    if given.privacy.hash_key is None and not path.exists():
        raise ConfigError(
            [
                f"there is no privacy.hash_key and no {path}: expected the key that producers hash with"
            ]
        )


def _person(privacy: Privacy, user: str | None, recipient: str | None) -> Person:
    from consumers.postgres.forgetting import Person

    if user is not None:
        name = user.strip().lower()
        if not name:
            raise click.UsageError("--user: expected a name")
        hashed = privacy.address(name)
        quotable = [one for one in (name, hashed) if "@" in one]
        return Person(user_names=[name, hashed], quotable=quotable)
    address = (recipient or "").strip().strip("<>").lower()
    local, _, domain = address.rpartition("@")
    if not local or not domain:
        raise click.UsageError("--recipient: expected an address such as bob@example.com")
    hashed = privacy.address(address)
    secret = hashed.partition("@")[0]
    return Person(recipients=[(local, domain), (secret, domain)], quotable=[address, hashed])


def _erase(given: Settings, person: Person, *, dry_run: bool) -> None:
    from consumers.postgres.connection import checked
    from consumers.postgres.forgetting import forget as forget_in_postgres

    postgres = given.sinks.postgres
    if postgres is None:
        click.echo("no store is configured (sinks.postgres): nothing to erase")
        return
    dsn = checked(postgres.dsn, "sinks.postgres.dsn")
    found = asyncio.run(forget_in_postgres(dsn, person, act=not dry_run))
    total = sum(one.rows for one in found)
    show_table(("table", "rows"), [(one.table, str(one.rows)) for one in found])
    click.echo(f"{total} rows {'would be' if dry_run else 'were'} erased from PostgreSQL")


def _kept(given: Settings, now_ms: int) -> Iterator[tuple[str, str]]:
    from pipeline.core.timestamp import rfc3339
    from pipeline.core.topics import TOPICS
    from pipeline.kit.topic_admin import topic_config

    for topic in TOPICS:
        if topic.compacted or topic.name in _SILENT:
            continue
        # A file of the log goes when its newest record is that old, and may have been open for long.
        config = topic_config(given, topic)
        until = now_ms + int(config["retention.ms"]) + int(config["segment.ms"])
        yield given.topics.prefix + topic.name, rfc3339(until)
