"""``dead``: look at dead letters, and give the records behind them another try."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from mailstream.commands.common import (
    FAILED,
    bootstrap_of,
    configurable,
    log_as,
    printable,
    settings,
    show_table,
)
from pipeline.core.errors import MailstreamError, Reason

if TYPE_CHECKING:
    from consumers.dead_letters import DeadLetter, Retried, Selection
    from pipeline.kit.settings import Settings

_HEX_WIDTH: Final = 16


class PlaceType(click.ParamType):
    """``partition:offset`` as a value."""

    name = "partition:offset"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return both numbers, or refuse the usage."""
        if isinstance(value, tuple):
            return value
        numbers = str(value).split(":")
        if len(numbers) != 2 or not all(one.isascii() and one.isdigit() for one in numbers):
            self.fail("expected partition:offset, such as 3:1714", param, ctx)
        return int(numbers[0]), int(numbers[1])


_sources = click.option("--source", multiple=True, help="Only of this source; may be repeated.")
_reasons = click.option(
    "--reason",
    multiple=True,
    type=click.Choice([*(reason.value for reason in Reason), "other"]),
    help="Only with this reason; may be repeated.",
)


@click.group()
@configurable
def dead() -> None:
    """Look at records that could not be used, or retry them."""


@dead.command("list", short_help="Count them by source and reason.")
@configurable
@_sources
@_reasons
@click.option("--each", is_flag=True, help="Show each one, with its place and error.")
def dead_list(source: tuple[str, ...], reason: tuple[str, ...], *, each: bool) -> None:
    """Count dead letters by source and reason, with the time and place of the newest."""
    from consumers.dead_letters import Selection, summaries
    from pipeline.core.timestamp import rfc3339

    log_as("dead", logging.WARNING)
    given = settings()
    bootstrap = bootstrap_of(given)
    selection = Selection(sources=source, reasons=reason)
    if each:
        asyncio.run(_list_each(given, bootstrap, selection))
        return
    found = asyncio.run(summaries(given, bootstrap, selection))
    rows = [
        (
            source_name or "-",
            reason_name,
            str(summary.count),
            rfc3339(summary.newest_ms),
            "-"
            if summary.newest is None
            else _spelt(summary.newest.partition, summary.newest.offset),
        )
        for (source_name, reason_name), summary in sorted(found.items())
    ]
    show_table(("source", "reason", "count", "newest", "place"), rows)


async def _list_each(given: Settings, bootstrap: str, selection: Selection) -> None:
    from consumers.dead_letters import read
    from pipeline.core.timestamp import rfc3339

    async with aclosing(read(given, bootstrap)) as letters:
        async for letter in letters:
            if selection.takes(letter):
                fields = (
                    _spelt(letter.place.partition, letter.place.offset),
                    rfc3339(letter.written_ms),
                    letter.source or "-",
                    letter.error,
                )
                click.echo("\t".join(map(printable, fields)))


@dead.command("show", short_help="Show one in full, by partition and offset.")
@configurable
@click.argument("place", type=PlaceType())
def dead_show(place: tuple[int, int]) -> None:
    """Show the dead letter at PLACE, partition:offset, in full."""
    from consumers.dead_letters import find

    log_as("dead", logging.WARNING)
    given = settings()
    found = asyncio.run(find(given, bootstrap_of(given), *place))
    if found is None:
        raise MailstreamError(f"Kafka holds no dead letter at {_spelt(*place)}")
    letter, held = found
    for line in _described(letter, held=held):
        click.echo(line)


def _described(letter: DeadLetter, *, held: bool) -> Iterator[str]:
    from pipeline.core.timestamp import rfc3339

    yield f"written: {rfc3339(letter.written_ms)}"
    for name, value in letter.headers:
        yield f"{printable(name)}: {printable(value.decode('utf-8', 'backslashreplace'))}"
    if held:
        yield "original: Kafka still holds it; `mailstream dead retry` can write it again"
    else:
        yield "original: Kafka no longer holds it; what follows cannot be retried"
    key = letter.key or b""
    yield f"key: {printable(key.decode('utf-8', 'backslashreplace'))}"
    yield f"value: {len(letter.value)} bytes, local parts of addresses are replaced by ***"
    yield from _shown(letter.value)


def _shown(value: bytes) -> Iterator[str]:
    """Yield lines of text, or of hexadecimal numbers where it is none."""
    try:
        lines = value.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        lines = None
    if lines is not None and all(one.replace("\t", "").isprintable() for one in lines):
        yield from lines
        return
    for at in range(0, len(value), _HEX_WIDTH):
        yield f"{at:08x}  {value[at : at + _HEX_WIDTH].hex(' ')}"


@dead.command("retry", short_help="Write the originals to their raw topics again.")
@configurable
@_sources
@_reasons
@click.option(
    "--at", "places", multiple=True, type=PlaceType(), help="Only this one; may be repeated."
)
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.option("--yes", is_flag=True, help="Do it; without this it only tells what it would do.")
def dead_retry(
    source: tuple[str, ...],
    reason: tuple[str, ...],
    places: tuple[tuple[int, int], ...],
    *,
    everything: bool,
    yes: bool,
) -> int:
    """Write the originals of dead letters to their raw topics again, where phase 1 reads them.

    A copy of an event that was counted meanwhile is dropped as a duplicate within
    pipeline.dedupe_horizon.  Exit 1 if Kafka no longer holds some of the originals.
    """
    from consumers.dead_letters import Selection, retry

    if not (source or reason or places or everything):
        raise click.UsageError("select by --source, --reason or --at, or take --all")
    log_as("dead", logging.WARNING)
    given = settings()
    bootstrap = bootstrap_of(given)
    selection = Selection(sources=source, reasons=reason, places=places)
    with _progress(yes=yes) as progress:
        retried = asyncio.run(retry(given, bootstrap, selection, act=yes, progress=progress))
    for sentence in _told(retried, yes=yes):
        click.echo(sentence)
    return FAILED if retried.gone or retried.foreign else 0


def _told(retried: Retried, *, yes: bool) -> Iterator[str]:
    yield f"{retried.selected} dead letters selected"
    if retried.repeated:
        yield f"{retried.repeated} are copies of others of them"
    if retried.gone:
        yield (
            f"{retried.gone} cannot be retried: Kafka no longer holds the original, and the dead "
            "letter has neither its addresses nor its headers"
        )
    if retried.foreign:
        yield f"{retried.foreign} cannot be retried: they do not come from a raw topic"
    if yes:
        yield f"{retried.written} written to their raw topics again"
    else:
        yield f"{retried.written} would be written to their raw topics again; --yes does it"


@contextmanager
def _progress(*, yes: bool) -> Iterator[Callable[[Retried], None]]:
    """Yield what shows how far a retry is, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("reading dead letters", total=None)
        verb = "written" if yes else "found"

        def show(retried: Retried) -> None:
            text = f"{retried.selected} dead letters, {retried.written} originals {verb}"
            bar.update(task, description=text)

        yield show


def _spelt(partition: int, offset: int) -> str:
    return f"{partition}:{offset}"
