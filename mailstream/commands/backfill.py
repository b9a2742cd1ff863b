"""``backfill``: the past of ``/metrics``, for a Prometheus that was not there."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mailstream.commands.common import (
    DurationType,
    TimeType,
    bootstrap_of,
    configurable,
    log_as,
    settings,
)
from mailstream.commands.progress import shown_progress
from pipeline.core.families import FAMILIES, FAMILY

if TYPE_CHECKING:
    from consumers.backfill import Plan, Tally
    from pipeline.kit.settings import Settings

_SLACK_MS: Final = 600_000
"""An event is written at most so much before its own time."""


@click.command(short_help="Write the past of /metrics as OpenMetrics, for promtool.")
@configurable
@click.option("--from", "since", type=TimeType(), required=True, help="First time shown.")
@click.option("--until", type=TimeType(), required=True, help="Last time shown.")
@click.option(
    "--to-file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A new file."
)
@click.option("--step", type=DurationType(), default="5m", show_default=True, help="How far apart.")
@click.option(
    "--source",
    type=click.Choice(["kafka", "postgres"]),
    default="kafka",
    show_default=True,
    help="Where the events are read.",
)
@click.option(
    "--family",
    "names",
    multiple=True,
    type=click.Choice(sorted(FAMILY)),
    help="Only this family of metrics; may be repeated.",
)
def backfill(
    since: int, until: int, to_file: Path, step: int, source: str, names: tuple[str, ...]
) -> None:
    """Write the windows of /metrics as they were, as OpenMetrics.

    For `promtool tsdb create-blocks-from openmetrics FILE FOLDER`.
    """
    from consumers.backfill import Tally, planned, write

    if step < 10_000 or step % 10_000:
        raise click.UsageError("--step: expected a multiple of 10s")
    if to_file.exists():
        raise click.UsageError(f"--to-file: {to_file} is there already")
    log_as("backfill", logging.WARNING)
    given = settings()
    families = [family for family in FAMILIES if not names or family.name in names]
    pipeline = given.pipeline
    plan = planned(since, until, step, pipeline.windows, pipeline.top_keys, families)
    tally = Tally(plan)
    if source == "kafka":
        _from_kafka(given, plan, tally)
    else:
        asyncio.run(_from_postgres(given, plan, tally))
    samples = write(tally, to_file)
    click.echo(f"{tally.counted} events counted, {samples} samples in {to_file}")


def _from_kafka(given: Settings, plan: Plan, tally: Tally) -> None:
    from consumers.backfill import TallyTarget
    from consumers.replay import Replay
    from consumers.replay_reading import Range
    from pipeline.kit.clock import SystemClock

    replay = Replay(
        topic=given.topics.names.of("events"), within=Range(since_ms=plan.first_ms - _SLACK_MS)
    )
    with shown_progress("reading") as progress:
        replayed = asyncio.run(
            replay.run(
                given,
                bootstrap_of(given),
                TallyTarget(tally),
                clock=SystemClock(),
                progress=progress,
            )
        )
    for span in replayed.spans:
        if span.gone:
            click.echo(
                f"partition {span.tp.partition}: Kafka holds nothing before offset {span.first}; "
                "what came before is missing"
            )


async def _from_postgres(given: Settings, plan: Plan, tally: Tally) -> None:
    from consumers.postgres.connection import checked
    from consumers.postgres.reading import beginning_ms, events
    from pipeline.core.errors import ConfigError
    from pipeline.core.timestamp import rfc3339

    postgres = given.sinks.postgres
    if postgres is None:
        raise ConfigError(["sinks.postgres: expected this section, with dsn"])
    dsn = checked(postgres.dsn, "sinks.postgres.dsn")
    oldest = await beginning_ms(dsn)
    if oldest is None or oldest > plan.first_ms:
        since = "at all" if oldest is None else f"before {rfc3339(oldest)}"
        click.echo(f"PostgreSQL holds no events {since}")
    async with aclosing(events(dsn, plan.first_ms, plan.until_ms)) as found:
        async for event in found:
            tally.add(event)
