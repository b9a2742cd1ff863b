"""What ``mailstream run`` says: rich on a terminal, plain lines with the time elsewhere.

That nobody can read any more (a closed pipe, a terminal that hung up) must not keep the parts
from being stopped in order: such errors are not passed on.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Protocol

from rich.console import Console as RichConsole
from rich.live import Live
from rich.markup import escape
from rich.text import Text


class Console(Protocol):
    """Where an operator reads."""

    def say(self, text: str) -> None:
        """Tell what happened."""

    def warn(self, text: str) -> None:
        """Tell what went wrong and what is done about it."""

    def fact(self, name: str, value: str) -> None:
        """Tell one thing that is so, such as an address."""

    def command(self, text: str) -> None:
        """Show something to be typed or copied, unbroken."""

    def status(self, text: str) -> None:
        """Tell how things are now, in place of the status before; empty: there is none."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def open_console(stream: IO[str] | None = None) -> Console:
    """Return the console that suits *stream* (standard output)."""
    stream = stream or sys.stdout
    return TerminalConsole(stream) if stream.isatty() else LineConsole(stream)


class LineConsole:
    """One line each, with the time: for logs and other programs."""

    def __init__(self, stream: IO[str]) -> None:
        """Write to *stream*, a line at a time."""
        self._stream = stream

    def say(self, text: str) -> None:
        """Write a line."""
        self._write(text)

    def warn(self, text: str) -> None:
        """Write a line marked as a warning."""
        self._write(f"warning: {text}")

    def fact(self, name: str, value: str) -> None:
        """Write a line ``name: value``."""
        self._write(f"{name}: {value}")

    def command(self, text: str) -> None:
        """Write the command on lines of its own, so that it can be copied."""
        self._write("run:")
        with suppress(OSError):
            self._stream.write(text + "\n")
            self._stream.flush()

    def status(self, text: str) -> None:
        """Write a line, unless *text* is empty."""
        if text:
            self._write(text)

    def close(self) -> None:
        """Nothing is to be undone."""

    def _write(self, text: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251  for people
        with suppress(OSError):
            self._stream.write(f"{now} {text}\n")
            self._stream.flush()


class _Unshakeable(RichConsole):
    """A rich console that does not end the process when nobody reads."""

    def on_broken_pipe(self) -> None:
        """Go on: the next write is given up the same way."""


class TerminalConsole:
    """Lines that scroll, and one status line that stays below them."""

    def __init__(self, stream: IO[str]) -> None:
        """Take over the bottom line of the terminal behind *stream*."""
        self._console = _Unshakeable(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def say(self, text: str) -> None:
        """Print a line."""
        self._print(escape(text))

    def warn(self, text: str) -> None:
        """Print a line in yellow."""
        self._print(f"[yellow]{escape(text)}[/yellow]")

    def fact(self, name: str, value: str) -> None:
        """Print a line with the name in a column of its own."""
        self._print(f"  [bold]{escape(name):<10}[/bold] {escape(value)}")

    def command(self, text: str) -> None:
        """Print the command as it is, in colour."""
        self._print(f"[cyan]{escape(text)}[/cyan]")

    def status(self, text: str) -> None:
        """Replace the status line."""
        self._live.update(
            Text(text, style="green", no_wrap=True, overflow="ellipsis"), refresh=True
        )

    def close(self) -> None:
        """Remove the status line and show the cursor."""
        with suppress(OSError):
            self._live.stop()

    def _print(self, markup: str) -> None:
        with suppress(OSError):
            self._console.print(markup, soft_wrap=True)
