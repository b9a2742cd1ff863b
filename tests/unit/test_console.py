"""What an operator reads, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from mailstream.running.console import Console, LineConsole, TerminalConsole, open_console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell(console: Console) -> None:
    console.say("it starts [1/2]")
    console.fact("ingest", "http://127.0.0.1:9780")
    console.warn("careful")
    console.command("curl -d '[\"a\"]'\ncurl -s http://127.0.0.1:9781/metrics")
    console.status("51.2 events/s")
    console.close()


def test_elsewhere_every_line_has_its_time_and_commands_stand_alone() -> None:
    stream = io.StringIO()
    tell(open_console(stream))
    lines = stream.getvalue().splitlines()
    texts = [line.partition(" ")[2] for line in lines]
    assert texts[:3] == ["it starts [1/2]", "ingest: http://127.0.0.1:9780", "warning: careful"]
    assert lines[4:6] == ["curl -d '[\"a\"]'", "curl -s http://127.0.0.1:9781/metrics"]
    assert texts[6] == "51.2 events/s"
    assert lines[0].partition(" ")[0].endswith("Z")


@pytest.mark.parametrize(
    "text", ["it starts [1/2]", "http://127.0.0.1:9780", "careful", "curl -d '[\"a\"]'"]
)
def test_a_terminal_shows_the_same_words(text: str) -> None:
    stream = Terminal()
    tell(open_console(stream))
    assert text in stream.getvalue()


class Closed(Terminal):
    """A terminal that hung up, or a pipe whose reader has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("console", [LineConsole(Closed()), TerminalConsole(Terminal())])
def test_nobody_reading_any_more_is_no_error(console: Console) -> None:
    if isinstance(console, TerminalConsole):
        console._console.file = Closed()
    tell(console)


def test_the_kind_of_console_follows_the_stream() -> None:
    assert isinstance(open_console(io.StringIO()), LineConsole)
    terminal = open_console(Terminal())
    assert isinstance(terminal, TerminalConsole)
    terminal.close()
