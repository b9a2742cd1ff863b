"""``kafka`` and ``topics``: the local broker, and the topics on whichever broker is used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mailstream.commands.common import (
    FAILED,
    bootstrap_of,
    configurable,
    log_as,
    settings,
    show_table,
)

if TYPE_CHECKING:
    from pipeline.kit.topic_admin import TopicDescription


@click.group()
@configurable
def kafka() -> None:
    """Start, stop or look at the local broker."""


@kafka.command("start")
@configurable
def kafka_start() -> None:
    """Start the local broker in the background and print its address."""
    from mailstream.local_kafka import LocalKafka, running_bootstrap

    log_as("kafka", logging.WARNING)
    folder = settings().data_dir
    click.echo(running_bootstrap(folder) or LocalKafka(folder).start())


@kafka.command("stop")
@configurable
def kafka_stop() -> None:
    """Stop the local broker in order, unless `mailstream run` uses it."""
    from mailstream.local_kafka import LocalKafka
    from mailstream.running.folder_lock import folder_lock

    log_as("kafka", logging.WARNING)
    folder = settings().data_dir
    if not LocalKafka(folder).status().running:
        click.echo("not running")
        return
    with folder_lock(folder):  # a run would start it again
        click.echo("stopped" if LocalKafka(folder).stop() else "not running")


@kafka.command("status")
@configurable
def kafka_status() -> int:
    """Tell whether the local broker runs; exit 1 if it does not."""
    from mailstream.local_kafka import LocalKafka

    status = LocalKafka(settings().data_dir).status()
    state = f"running at {status.bootstrap}, pid {status.pid}" if status.running else "not running"
    click.echo(state)
    click.echo(f"folder: {status.folder}")
    click.echo(f"log: {status.log}")
    return 0 if status.running else FAILED


@click.group()
@configurable
def topics() -> None:
    """Create or describe the topics."""


@topics.command("create", short_help="Create what is missing; safe to repeat.")
@configurable
def topics_create() -> None:
    """Create what is missing and bring the rest up to date; safe to repeat."""
    from pipeline.core.topics import TOPICS
    from pipeline.kit.topic_admin import create_topics

    log_as("topics", logging.WARNING)
    given = settings()
    asyncio.run(create_topics(given, bootstrap_of(given)))
    click.echo(
        f"{len(TOPICS)} topics {given.topics.prefix}* with {given.topics.partitions} partitions each"
    )


@topics.command("describe")
@configurable
def topics_describe() -> None:
    """Show every topic as the cluster has it."""
    from pipeline.kit.topic_admin import describe_topics

    log_as("topics", logging.WARNING)
    given = settings()
    _show_topics(asyncio.run(describe_topics(given, bootstrap_of(given))))


def _show_topics(descriptions: Sequence[TopicDescription]) -> None:
    """Print one row per topic."""
    from pipeline.kit.values import duration_text

    heads = ("topic", "partitions", "replicas", "retention", "bytes", "records", "holds")
    rows = [
        (
            row.name,
            str(row.partitions) if row.partitions else "missing",
            str(row.replication_factor),
            duration_text(row.retention_ms) if row.retention_ms is not None else "-",
            str(row.retention_bytes) if row.retention_bytes is not None else "-",
            str(row.records),
            row.holds,
        )
        for row in descriptions
    ]
    show_table(heads, rows)
