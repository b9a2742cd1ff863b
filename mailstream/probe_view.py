"""How one round looks: a table of its phases that grows on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mailstream.commands.common import printable
from producers.sources.probe.attempt import Course, Phase
from producers.sources.probe.config import Route
from producers.sources.probe.outcome import Outcome

Scrub = Callable[[str], str]

_MEANING: Final = {
    Phase.DNS: "look up the SMTP server",
    Phase.CONNECT: "connect",
    Phase.TLS: "TLS",
    Phase.AUTH: "log in",
    Phase.MAIL: "MAIL FROM",
    Phase.RCPT: "RCPT TO",
    Phase.DATA: "DATA",
    Phase.IMAP_DNS: "look up the IMAP server",
    Phase.IMAP_CONNECT: "connect",
    Phase.IMAP_TLS: "TLS",
    Phase.IMAP_AUTH: "log in",
    Phase.FOUND: "until the mail was seen",
    Phase.VERIFY: "verify and delete",
}


class View(Protocol):
    """What shows a round."""

    def show(self, out: Course, back: Course) -> None:
        """Show both courses as they are now."""

    def end(self, outcome: Outcome, copies: int) -> None:
        """Show how it ended."""


@contextmanager
def open_view(route: Route, scrub: Scrub) -> Iterator[View]:
    """Yield what shows a round of *route*: live on a terminal, else a line for each phase."""
    if not sys.stdout.isatty():
        yield Lines(route, scrub)
        return
    console = Console()
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        yield Screen(route, scrub, live)


def verdict(outcome: Outcome, copies: int, scrub: Scrub) -> str:
    """Return how a round ended, in one line."""
    text = outcome.kind.value
    if outcome.roundtrip_ms is not None:
        text += f" after {outcome.roundtrip_ms / 1000:.2f} s"
    if outcome.found is not None:
        text += f" in {outcome.found.folder}"
    if copies:
        text += ", more than once"
    failure = outcome.failure
    if failure is not None and not outcome.delivered:
        text += f": {failure.phase.value}: {failure.error_class.value}: {failure.text}"
    return printable(scrub(text))


class Lines:
    """Plain lines, one for each phase that has ended."""

    def __init__(self, route: Route, scrub: Scrub) -> None:
        self._route = route
        self._scrub = scrub
        self._told: set[tuple[Phase, float]] = set()

    def show(self, out: Course, back: Course) -> None:
        """Print phases that have ended since the last call."""
        for phase, ms in {**out.phases_ms, **back.phases_ms}.items():
            if (phase, ms) not in self._told:
                self._told.add((phase, ms))
                click.echo(f"{printable(self._route.name)} {phase.value} {ms:.1f} ms")

    def end(self, outcome: Outcome, copies: int) -> None:
        """Print how it ended."""
        name = printable(self._route.name)
        for endpoint, days in outcome.certificate_days.items():
            click.echo(f"{name} certificate {endpoint} {days:.1f} days")
        click.echo(f"{name} {verdict(outcome, copies, self._scrub)}")


class Screen:
    """A table that is drawn again with each change."""

    def __init__(self, route: Route, scrub: Scrub, live: Live) -> None:
        self._route = route
        self._scrub = scrub
        self._live = live
        self._out, self._back = Course(), Course()

    def show(self, out: Course, back: Course) -> None:
        """Draw both courses as they are now."""
        self._out, self._back = out, back
        self._live.update(self._table())

    def end(self, outcome: Outcome, copies: int) -> None:
        """Draw the table a last time, with how it ended below."""
        table = self._table()
        style = "green" if outcome.delivered else "red"
        table.caption = Text(verdict(outcome, copies, self._scrub), style=style)
        for endpoint, days in outcome.certificate_days.items():
            table.add_row(f"{endpoint} certificate", "", f"{days:.0f} days")
        self._live.update(table, refresh=True)

    def _table(self) -> Table:
        table = Table("phase", "", "ms", title=Text(printable(self._route.name)))
        table.columns[2].justify = "right"
        for course in (self._out, self._back):
            for phase in Phase:
                if phase in course.phases_ms:
                    failed = course.failure is not None and course.failure.phase is phase
                    style = "red" if failed else ""
                    ms = f"{course.phases_ms[phase]:,.1f}"
                    table.add_row(phase.value, _MEANING[phase], ms, style=style)
                elif course.running is phase:
                    table.add_row(phase.value, _MEANING[phase], "…", style="yellow")
        return table
