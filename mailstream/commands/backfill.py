"""``backfill``: the past of ``/metrics``, for a Prometheus that was not there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mailstream.commands.common import (
    DurationType,
    TimeType,
    bootstrap_of,
    configurable,
    log_as,
    run_hurried,
    settings,
)
from mailstream.commands.progress import shown_progress
from pipeline.core.families import FAMILIES, FAMILY

if TYPE_CHECKING:
    from consumers.backfill import Plan, Tally
    from consumers.replay import Replayed
    from pipeline.kit.settings import Settings

_SLACK_MS: Final = 600_000
"""An event is written at most so much before its own time."""
_PANE_MS: Final = 300_000


@click.command(short_help="Write the past of /metrics as OpenMetrics, for promtool.")
@configurable
@click.option("--from", "since", type=TimeType(), required=True, help="First time shown.")
@click.option("--until", type=TimeType(), required=True, help="Last time shown.")
@click.option(
    "--to-file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A new file."
)
@click.option("--step", type=DurationType(), default="5m", show_default=True, help="How far apart.")
@click.option(
    "--of",
    type=click.Choice(["events", "panes"]),
    default="events",
    show_default=True,
    help="Count events, or add up published panes of 5m: much faster.",
)
@click.option(
    "--source",
    type=click.Choice(["kafka", "postgres"]),
    default="kafka",
    show_default=True,
    help="Where they are read.",
)
@click.option(
    "--family",
    "names",
    multiple=True,
    type=click.Choice(sorted(FAMILY)),
    help="Only this family of metrics; may be repeated.",
)
def backfill(
    since: int, until: int, to_file: Path, step: int, of: str, source: str, names: tuple[str, ...]
) -> None:
    """Write the windows of /metrics as they were, as OpenMetrics.

    For `promtool tsdb create-blocks-from openmetrics FILE FOLDER`.
    """
    from consumers.backfill import Tally, planned, write

    if step < 10_000 or step % 10_000:
        raise click.UsageError("--step: expected a multiple of 10s")
    if of == "panes" and step % _PANE_MS:
        raise click.UsageError("--step: expected a multiple of 5m, which panes are long")
    if to_file.exists():
        raise click.UsageError(f"--to-file: {to_file} is there already")
    log_as("backfill", logging.WARNING)
    given = settings()
    families = [family for family in FAMILIES if not names or family.name in names]
    pipeline = given.pipeline
    plan = planned(since, until, step, pipeline.windows, pipeline.top_keys, families)
    tally = Tally(plan)
    if source == "kafka":
        _from_kafka(given, tally, of)
    else:
        asyncio.run(_from_postgres(given, tally, of))
    samples = write(tally, to_file)
    for sentence in _doubts(tally, of, names):
        click.echo(sentence)
    click.echo(f"{tally.counted} {of} counted, {samples} samples in {to_file}")


def _doubts(tally: Tally, of: str, names: tuple[str, ...]) -> Iterator[str]:
    if of != "panes":
        return
    if tally.partial:
        yield (
            f"{tally.partial} of them are marked partial: told late, which is no fault, or made of "
            "deltas of which some were lost"
        )
    if missing := sorted(set(names) - tally.found):
        yield f"there are no panes of {', '.join(missing)}; pipeline.publish_panes says which are published"


def _from_kafka(given: Settings, tally: Tally, of: str) -> None:
    from consumers.backfill import TallyTarget
    from consumers.replay import Replay
    from consumers.replay_reading import Range
    from pipeline.kit.clock import SystemClock

    within = Range(since_ms=tally.plan.first_ms - _SLACK_MS)
    replay = Replay(topic=given.topics.prefix + of, within=within)
    target = TallyTarget(tally, of_panes=of == "panes")
    with shown_progress("reading") as progress:
        replayed = run_hurried(
            replay.run(given, bootstrap_of(given), target, clock=SystemClock(), progress=progress)
        )
    for sentence in _gone(replayed):
        click.echo(sentence)
    if target.unreadable:
        click.echo(f"{target.unreadable} records could not be read and are missing")


def _gone(replayed: Replayed) -> Iterator[str]:
    from pipeline.core.timestamp import rfc3339

    for span in replayed.spans:
        if span.gone:
            since = "" if span.since_ms is None else f", which was written {rfc3339(span.since_ms)}"
            yield (
                f"partition {span.tp.partition}: Kafka holds nothing before offset "
                f"{span.first}{since}; what came before is missing"
            )
    for lost in replayed.lost:
        yield (
            f"partition {lost.partition}: Kafka let go of offsets {lost.first} to {lost.end - 1} "
            "while they were to be read; they are missing"
        )


async def _from_postgres(given: Settings, tally: Tally, of: str) -> None:
    from consumers.postgres.connection import checked
    from consumers.postgres.reading import beginning_ms, events, panes
    from consumers.postgres.tables import EVENTS, PANES
    from pipeline.core.errors import ConfigError, RecordError
    from pipeline.core.timestamp import rfc3339

    postgres = given.sinks.postgres
    if postgres is None:
        raise ConfigError(["sinks.postgres: expected this section, with dsn"])
    dsn = checked(postgres.dsn, "sinks.postgres.dsn")
    plan: Plan = tally.plan
    oldest = await beginning_ms(dsn, PANES if of == "panes" else EVENTS)
    if oldest is None or oldest > plan.first_ms:
        since = "at all" if oldest is None else f"before {rfc3339(oldest)}"
        click.echo(f"PostgreSQL holds no {of} {since}")
    take: Any = tally.add
    found: Any = events(dsn, plan.first_ms, plan.until_ms)
    if of == "panes":
        take = tally.add_pane
        found = panes(dsn, plan.first_ms, plan.until_ms, [one.name for one in plan.families])
    async with aclosing(found) as rows:
        unreadable = 0
        async for row in rows:
            try:
                take(row)
            except RecordError:
                unreadable += 1
    if unreadable:
        click.echo(f"{unreadable} rows could not be read and are missing")
