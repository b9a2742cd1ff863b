"""``replay``: what a topic holds, once more, to a file or under another prefix."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailstream.commands.common import ExpressionType, bootstrap_of, configurable, log_as, settings
from pipeline.core.topics import RAW_TOPICS

if TYPE_CHECKING:
    from consumers.replay import Range, Replayed, Target, Wanted
    from pipeline.kit.settings import Settings


class TimeType(click.ParamType):
    """A time as RFC 3339 spells it, as an option's value, in milliseconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the milliseconds, or refuse the usage."""
        from pipeline.core.errors import RecordError
        from pipeline.core.timestamp import epoch_ms

        try:
            return value if isinstance(value, int) else epoch_ms(str(value))
        except RecordError:
            self.fail("expected a time such as 2026-01-02T03:04:05Z", param, ctx)


class OffsetsType(click.ParamType):
    """``partition:first-end`` as an option's value."""

    name = "partition:first-end"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        """Return the three numbers, or refuse the usage."""
        if isinstance(value, tuple):
            return value
        partition, _, span = str(value).partition(":")
        numbers = [partition, *span.split("-")]
        if len(numbers) != 3 or not all(one.isascii() and one.isdigit() for one in numbers):
            self.fail("expected partition:first-end, such as 3:1700-1800", param, ctx)
        number, first, end = map(int, numbers)
        if first >= end:
            self.fail("the end is the offset after the last, so larger than the first", param, ctx)
        return number, first, end


@click.command(short_help="Write what a topic holds to a file or another prefix.")
@configurable
@click.argument("topic", type=click.Choice(["events", *RAW_TOPICS]))
@click.option("--to-file", type=click.Path(path_type=Path, dir_okay=False), help="JSON lines.")
@click.option("--to-prefix", help="The same topic under this prefix, such as test.")
@click.option("--from", "since", type=TimeType(), help="Only what was written at TIME or later.")
@click.option("--until", type=TimeType(), help="Only what was written before TIME.")
@click.option(
    "--offsets",
    multiple=True,
    type=OffsetsType(),
    help="Only these offsets of a partition, the end not included; may be repeated.",
)
@click.option("--where", help="Only events for which EXPR holds, as with tail; of events only.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    help="So many times as fast as it was written; else as fast as it goes.",
)
@click.option("--yes", is_flag=True, help="Do it; without this it only counts.")
def replay(
    topic: str,
    to_file: Path | None,
    to_prefix: str | None,
    since: int | None,
    until: int | None,
    offsets: tuple[tuple[int, int, int], ...],
    where: str | None,
    speed: float | None,
    *,
    yes: bool,
) -> None:
    """Write what TOPIC holds to a file, or to the same topic under another prefix.

    Started again with the same arguments, it goes on where it was interrupted.
    """
    from consumers.replay import Range, Replay
    from pipeline.kit.clock import SystemClock

    if (to_file is None) == (to_prefix is None):
        raise click.UsageError("say where to: --to-file or --to-prefix")
    if offsets and (since is not None or until is not None):
        raise click.UsageError("say which: by --offsets, or by --from and --until")
    spans = {partition: (first, end) for partition, first, end in offsets}
    if len(spans) < len(offsets):
        raise click.UsageError("--offsets names a partition twice")
    wanted = _wanted(topic, where)
    log_as("replay", logging.WARNING)
    given = settings()
    bootstrap = bootstrap_of(given)
    within = Range(since_ms=since, until_ms=until, offsets=spans or None)
    target = _target(given, bootstrap, topic, to_file, to_prefix, f"{within} {where}")
    full_name = given.topics.names.of(topic)
    one = Replay(topic=full_name, within=within, wanted=wanted, speed=speed)
    with shown_progress() as progress:
        replayed = asyncio.run(
            one.run(
                given, bootstrap, target if yes else None, clock=SystemClock(), progress=progress
            )
        )
    for sentence in _told(replayed, within, yes=yes):
        click.echo(sentence)


def _wanted(topic: str, where: str | None) -> Wanted:
    if where is None:
        return lambda _record: True
    if topic != "events":
        raise click.UsageError("--where is for the topic events: raw records are the sources' own")
    from consumers.subscribe import event_of

    matches = ExpressionType().convert(where, None, None)

    def wanted(record: Any) -> bool:
        event = event_of(record)
        return event is not None and matches(event)

    return wanted


def _target(
    given: Settings,
    bootstrap: str,
    topic: str,
    to_file: Path | None,
    to_prefix: str | None,
    what: str,
) -> Target:
    from pydantic import ValidationError

    from consumers.replay_targets import FileTarget, TopicTarget
    from pipeline.kit.clock import SystemClock
    from pipeline.kit.kafka import client_options
    from pipeline.kit.settings import TopicSettings

    names = given.topics.names
    if to_file is not None:
        return FileTarget(to_file, names.of(topic))
    try:
        others = TopicSettings(prefix=to_prefix or "").names
    except ValidationError as exc:
        raise click.UsageError("--to-prefix is not a prefix of topics, such as test.") from exc
    if others.of(topic) == names.of(topic):
        raise click.UsageError(
            "--to-prefix is the prefix that is read: a topic is no target of itself"
        )
    # What the arguments say names the group in which Kafka keeps how far it is.
    digest = hashlib.sha256(f"{names.of(topic)} {what}".encode()).hexdigest()
    group = f"{others.app_id}-replay-{digest[:16]}"
    client = client_options(given.kafka, bootstrap)
    return TopicTarget(client, names.of(topic), others.of(topic), group, SystemClock())


def _told(replayed: Replayed, within: Range, *, yes: bool) -> Iterator[str]:
    for span in replayed.spans:
        if span.gone:
            yield (
                f"partition {span.tp.partition}: Kafka holds nothing before offset {span.first}; "
                f"{'some of what was asked for' if within.offsets else 'what came before'} is gone"
            )
    if yes:
        yield f"{replayed.wanted} records written, of {replayed.read} read"
    else:
        yield f"{replayed.wanted} records would be written, of {replayed.read} read; --yes does it"


@contextmanager
def shown_progress() -> Iterator[Callable[[Replayed], None]]:
    """Yield what shows how far a replay is, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("replaying", total=None)

        def show(replayed: Replayed) -> None:
            total = sum(max(0, span.end - span.first) for span in replayed.spans)
            bar.update(task, total=total, completed=replayed.read)

        yield show
