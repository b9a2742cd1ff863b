"""How far long reading is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from consumers.replay import Replayed

    Show = Callable[[Replayed], None]

EVERY_S: Final = 10.0
"""How often a line tells."""


@contextmanager
def shown_progress(what: str) -> Iterator[Show]:
    """Yield what shows on standard error how far *what* is, and how long it will take."""
    if not sys.stderr.isatty():
        yield lines(what)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(replayed: Replayed) -> None:
            bar.update(task, total=replayed.total, completed=replayed.read)

        yield show


def lines(what: str, now_s: Callable[[], float] = time.monotonic) -> Show:
    """Return what writes a line every ten seconds."""
    began = now_s()
    due = began + EVERY_S

    def show(replayed: Replayed) -> None:
        nonlocal due
        now = now_s()
        if now < due or not replayed.read:
            return
        due = now + EVERY_S
        left_s = (replayed.total - replayed.read) * (now - began) / replayed.read
        click.echo(
            f"{what}: {replayed.read} of {replayed.total}, about {max(0.0, left_s):.0f} s left",
            err=True,
        )

    return show
