"""``replay``: what a topic holds, once more, to a file, another topic, or under another prefix."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mailstream.commands.common import (
    FAILED,
    OffsetsType,
    SpeedType,
    TimeType,
    bootstrap_of,
    configurable,
    log_as,
    run_hurried,
    settings,
)
from mailstream.commands.progress import shown_progress
from pipeline.core.topics import RAW_TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers.replay import Replayed, Target, Wanted
    from consumers.replay_reading import Range
    from pipeline.core.event import MailEvent
    from pipeline.kit.settings import Settings

_RAW_FIELDS: Final = ("event_id", "source", "feed", "origin", "received")
"""What the headers of a raw record tell, by the names that events have for it."""


@click.command(short_help="Write what a topic holds to a file, a topic or another prefix.")
@configurable
@click.argument("topic", type=click.Choice(["events", *RAW_TOPICS, "raw.node"]))
@click.option("--to-file", type=click.Path(path_type=Path, dir_okay=False), help="JSON lines.")
@click.option("--into-topic", help="A topic by its full name; it must be there.")
@click.option(
    "--into-prefix",
    "--to-prefix",
    "into_prefix",
    help="The same topic under this prefix, such as replay., where another pipeline runs.",
)
@click.option("--from", "since", type=TimeType(), help="Only what was written at TIME or later.")
@click.option("--until", type=TimeType(), help="Only what was written before TIME.")
@click.option(
    "--offsets",
    multiple=True,
    type=OffsetsType(),
    help="Only these offsets of a partition, the end not included; may be repeated.",
)
@click.option(
    "--where",
    help="Only events for which EXPR holds, as with tail; of raw records it knows "
    f"{', '.join(_RAW_FIELDS)}.",
)
@click.option(
    "--speed",
    type=SpeedType(),
    default="max",
    show_default=True,
    help="10x: ten times as fast as it was written.",
)
@click.option("--dry-run", is_flag=True, help="Only count, as without --yes.")
@click.option("--yes", is_flag=True, help="Do it; without this it only counts.")
def replay(
    topic: str,
    to_file: Path | None,
    into_topic: str | None,
    into_prefix: str | None,
    since: int | None,
    until: int | None,
    offsets: tuple[tuple[int, int, int], ...],
    where: str | None,
    speed: float | None,
    *,
    dry_run: bool,
    yes: bool,
) -> int:
    """Write what TOPIC holds to a file, to another topic, or under another prefix.

    Started again with the same arguments, it goes on where it was interrupted.  Exit 1 if Kafka
    let go of records before it came to them.
    """
    from consumers.replay import Replay
    from pipeline.kit.clock import SystemClock

    if [to_file, into_topic, into_prefix].count(None) != 2:
        raise click.UsageError("say where to: --to-file, --into-topic or --into-prefix")
    if dry_run and yes:
        raise click.UsageError("either --dry-run or --yes")
    within = _range(since, until, offsets)
    wanted = _wanted(topic, where)
    log_as("replay", logging.WARNING)
    given = settings()
    bootstrap = bootstrap_of(given)
    if to_file is not None:
        target = _file(given, topic, to_file)
    else:
        what = f"{within} {where}"
        target = _topic(given, bootstrap, topic, into_topic, into_prefix, what)
    one = Replay(topic=given.topics.names.of(topic), within=within, wanted=wanted, speed=speed)
    with shown_progress("replaying") as progress:
        replayed = run_hurried(
            one.run(
                given, bootstrap, target if yes else None, clock=SystemClock(), progress=progress
            )
        )
    for sentence in _told(replayed, within, yes=yes):
        click.echo(sentence)
    return FAILED if replayed.lost else 0


def _range(
    since: int | None, until: int | None, offsets: tuple[tuple[int, int, int], ...]
) -> Range:
    from consumers.replay_reading import Range

    if offsets and (since is not None or until is not None):
        raise click.UsageError("say which: by --offsets, or by --from and --until")
    spans = {partition: (first, end) for partition, first, end in offsets}
    if len(spans) < len(offsets):
        raise click.UsageError("--offsets names a partition twice")
    return Range(since_ms=since, until_ms=until, offsets=spans or None)


def _wanted(topic: str, where: str | None) -> Wanted | None:
    from consumers.expressions import ExpressionError, compiled

    if where is None:
        return None
    from consumers.subscribe import event_of

    raw = topic != "events"
    try:
        matches = compiled(where, _RAW_FIELDS) if raw else compiled(where)
    except ExpressionError as exc:
        raise click.BadParameter(str(exc), param_hint="--where") from exc
    read: Callable[[Any], MailEvent | None] = _headers_of if raw else event_of

    def wanted(record: Any) -> bool:
        event = read(record)
        return event is not None and matches(event)

    return wanted


def _headers_of(record: Any) -> MailEvent:
    """Return what the headers of a raw record tell, as an event."""
    from pipeline.core.event import MailEvent
    from pipeline.core.timestamp import MAX_MS, rfc3339

    told = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    received = told.get("received", "")
    known = received.isascii() and received.isdigit() and int(received[:16]) <= MAX_MS
    return MailEvent(
        event_id=told.get("id"),
        source=told.get("source"),
        feed=told.get("feed"),
        origin=told.get("origin"),
        received=rfc3339(int(received[:16])) if known else None,
    )


def _file(given: Settings, topic: str, path: Path) -> Target:
    from consumers.replay_targets import FileTarget

    return FileTarget(path, given.topics.names.of(topic))


def _topic(
    given: Settings,
    bootstrap: str,
    topic: str,
    into_topic: str | None,
    into_prefix: str | None,
    what: str,
) -> Target:
    from pydantic import ValidationError

    from consumers.replay_targets import TopicTarget
    from pipeline.kit.clock import SystemClock
    from pipeline.kit.kafka import client_options
    from pipeline.kit.settings import TopicSettings

    names = given.topics.names
    if into_prefix is not None:
        try:
            others = TopicSettings(prefix=into_prefix).names
        except ValidationError as exc:
            raise click.UsageError(
                "--into-prefix is not a prefix of topics, such as replay."
            ) from exc
        if others.prefix == names.prefix:
            raise click.UsageError(
                "--into-prefix is the prefix that is read: a topic is no target of itself"
            )
        full_name, app_id = others.of(topic), others.app_id
    else:
        full_name, app_id = into_topic or "", names.app_id
        if full_name.startswith((names.prefix, "__")) or not full_name:
            raise click.UsageError(
                f"--into-topic: topics of {names.prefix} and Kafka's own are no targets; "
                "another pipeline takes it by --into-prefix"
            )
    # What the arguments say names the group in which Kafka keeps how far it is.
    said = f"{names.of(topic)} {what}" + (f" {full_name}" if into_topic else "")
    group = f"{app_id}-replay-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    client = client_options(given.kafka, bootstrap)
    return TopicTarget(client, names.of(topic), full_name, group, SystemClock())


def _told(replayed: Replayed, within: Range, *, yes: bool) -> Iterator[str]:
    from pipeline.core.timestamp import rfc3339

    for span in replayed.spans:
        if span.gone:
            what = "some of what was asked for" if within.offsets else "what came before"
            begins = (
                "and holds nothing now"
                if span.since_ms is None
                else f"which was written {rfc3339(span.since_ms)}"
            )
            yield (
                f"partition {span.tp.partition}: Kafka holds nothing before offset {span.first}, "
                f"{begins}; {what} is gone"
            )
    for lost in replayed.lost:
        yield (
            f"partition {lost.partition}: Kafka let go of offsets {lost.first} to {lost.end - 1} "
            "before the replay came to them; they are missing"
        )
    done = "written" if yes else "would be written"
    more = "" if yes else "; --yes does it"
    yield f"{replayed.wanted} records {done}, of {replayed.read} read{more}"
