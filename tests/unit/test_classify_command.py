"""``mailstream classify``: one answer to each line, whatever the line is."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from mailstream import cli
from mailstream.commands.classify import LONGEST_LINE

Capture = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    """A standard output that a person reads."""

    def isatty(self) -> bool:
        return True


def answers(capsys: Capture, *arguments: str) -> list[dict[str, object]]:
    assert cli.call(["classify", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_reply_is_explained_in_one_line_of_json(capsys: Capture) -> None:
    assert answers(capsys, "550-5.1.1 No such user\n550 5.1.1 here") == [
        {
            "class": "invalid_recipient",
            "category": "hard",
            "hard": True,
            "scope": "recipient",
            "smtp_code": 550,
            "enhanced_status": "5.1.1",
            "provider": None,
            "rule": "recipient",
        }
    ]


@pytest.mark.parametrize(
    ("options", "provider", "rule"),
    [
        (["--mx", "MTA5.am0.yahoodns.NET."], "yahoo", "yahoo.volume"),
        (["--domain", "aol.com"], "yahoo", "yahoo.volume"),
        (["--mx", "mx.corp.example", "--domain", "aol.com"], "yahoo", "yahoo.volume"),
        (["--mx", "gmail-smtp-in.l.google.com", "--domain", "aol.com"], "google", "status.7.0"),
        (["--mx", "notyahoodns.net"], "other", "status.7.0"),
        ([], None, "status.7.0"),
    ],
)
def test_the_provider_is_told_by_the_mx_host_else_by_the_domain(
    options: list[str], provider: str | None, rule: str, capsys: Capture
) -> None:
    (answer,) = answers(capsys, *options, "421 4.7.0 [TSS04] Sorry")
    assert (answer["provider"], answer["rule"]) == (provider, rule)


def test_every_line_of_standard_input_has_an_answer(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [b"550 5.1.1 x", b"", b"\xff\xfe\x00", b"x" * (3 * LONGEST_LINE), b"552 mailbox full"]
    given = io.TextIOWrapper(io.BytesIO(b"\r\n".join(lines)))
    monkeypatch.setattr(sys, "stdin", given)
    found = answers(capsys, "-")
    assert [answer["class"] for answer in found] == (
        ["invalid_recipient", *["unclassified"] * 3, "mailbox_full"]
    )


def test_a_person_reads_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert cli.call(["classify", "599 [red]not[/red] today, <bob@x.example>"]) == 0
    shown = screen.getvalue()
    assert "unclassified" in shown
    assert "599 red not red today <address>" in shown
    assert "bob" not in shown


def test_nothing_to_classify_is_wrong_usage(capsys: Capture) -> None:
    assert cli.call(["classify"]) == 2
    assert "Missing argument 'TEXT'" in capsys.readouterr().err


def test_it_starts_without_what_the_pipeline_needs() -> None:
    program = (
        "import sys; from mailstream.cli import call; call(['classify', 'x'])\n"
        "print(sorted({'aiokafka', 'faust', 'aiohttp', 'numpy', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
