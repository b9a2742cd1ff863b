"""``tail``: enriched events as they come."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import click

from mailstream.commands.common import (
    DurationType,
    ExpressionType,
    bootstrap_of,
    configurable,
    log_as,
    settings,
)

if TYPE_CHECKING:
    from consumers.filters import Predicate
    from consumers.start import Start
    from pipeline.core.event import MailEvent
    from pipeline.kit.settings import Settings

    Show = Callable[[MailEvent], None]


@click.command(short_help="Show enriched events as they come.")
@configurable
@click.option(
    "--where",
    type=ExpressionType(),
    help="Only events for which EXPR holds: \"event_type == 'bounced' and response_code >= 550\".",
)
@click.option("--source", help="Only events of this source, such as zonemta.")
@click.option("--since", type=DurationType(), help="Begin with what was written in the last 10m.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
def tail(where: Predicate | None, source: str | None, since: int | None, count: int | None) -> None:
    """Show enriched events as they come, until Ctrl-C.

    Lines for people on a terminal, one JSON object a line elsewhere.
    """
    from consumers.filters import having
    from consumers.start import Now, Since
    from pipeline.kit.clock import SystemClock

    log_as("tail", logging.WARNING)
    given = settings()
    bootstrap = bootstrap_of(given)
    of_source = None if source is None else having(source=source)

    def wanted(event: MailEvent) -> bool:
        return (of_source is None or of_source(event)) and (where is None or where(event))

    start = Now() if since is None else Since(SystemClock().now_ms() - since)
    try:
        asyncio.run(_follow(given, bootstrap, wanted, start, count, _show()))
    except KeyboardInterrupt:
        pass  # the usual way to end it
    except asyncio.CancelledError as exc:
        raise BrokenPipeError from exc


async def _follow(
    given: Settings,
    bootstrap: str,
    wanted: Predicate,
    start: Start,
    count: int | None,
    show: Show,
) -> None:
    from consumers.subscribe import subscribe

    shown = 0
    _end_with_reader()
    async with aclosing(subscribe(given, bootstrap, where=wanted, start=start)) as events:
        async for event, _place in events:
            show(event)
            shown += 1
            if shown == count:
                break


def _end_with_reader() -> None:
    """Cancel the running task when nobody reads standard output any more, if that is a pipe.

    Else that would show with the next event, which may be long in coming.
    """
    task = asyncio.current_task()
    with suppress(OSError):  # a stream of a test's has no number
        number = sys.stdout.fileno()
        if task is not None and stat.S_ISFIFO(os.fstat(number).st_mode):
            # The writing end of a pipe is only ever "readable" when it is broken.
            loop = asyncio.get_running_loop()
            loop.add_reader(number, lambda: (loop.remove_reader(number), task.cancel()))


def _show() -> Show:
    """Return what shows an event on standard output."""
    if sys.stdout.isatty():
        from mailstream.event_line import show_on

        return show_on(sys.stdout)
    import msgspec

    encode = msgspec.json.Encoder().encode

    def show(event: MailEvent) -> None:
        click.echo(encode(event))

    return show
