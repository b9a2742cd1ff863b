"""The README's commands, run as they stand there; only ports and folders are a test's own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from mailstream.local_kafka import LocalKafka
from pipeline.kit.settings import Settings
from tests.kit.processes import ANY_GELF, Service, mailstream, wait_until

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()
SETUP, POST, READ = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
[SHOWN] = re.findall(r"^```\n(mail_.*?)^```$", README, re.DOTALL | re.MULTILINE)
[ANSWER] = re.findall(r"It answers `(.*?)` once", README)
DUPLICATES = READ.replace("mail_user_events", "mail_events_duplicate_total")
OUTER_MAKE: Final = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS")
READY_S: Final = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Shell:
    """Runs the README's lines against an installation on other ports."""

    def __init__(self, ports: dict[int, int]) -> None:
        self._ports = ports

    def __call__(self, script: str) -> str:
        for default, port in self._ports.items():
            assert str(default) in POST + READ
            script = script.replace(f"127.0.0.1:{default}", f"127.0.0.1:{port}")
        ran = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, check=False, timeout=READY_S
        )
        assert ran.stderr == ""
        return ran.stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("readme")
    ingest, metrics = free_port(), free_port()
    config = folder / "mailstream.yaml"
    config.write_text(
        json.dumps(
            {
                "data_dir": str(folder),
                "ingest": {"listen": f"127.0.0.1:{ingest}"},
                "metrics": {"listen": f"127.0.0.1:{metrics}"},
                "gelf": ANY_GELF,
                "view": {"listen": "127.0.0.1:0"},
            }
        )
    )
    command = made(targets()["run"])
    assert command == ["mailstream", "run"]
    running = Service("run", mailstream(*command[1:], "--config", config), folder)
    defaults = Settings()
    try:
        running.start()
        wait_until(lambda: running.address() or not running.running, "it runs", within_s=READY_S)
        assert running.running, running.said()
        yield Shell({defaults.ingest.listen.port: ingest, defaults.metrics.listen.port: metrics})
    finally:
        if running.running:
            running.stop()
        LocalKafka(folder).stop()


def targets() -> dict[str, str]:
    """Return what the Makefile does for each target that the README names."""
    named = set(re.findall(r"\bmake ([a-z]+)\b", SETUP + README))
    done = {}
    for name in named:
        dry = subprocess.run(
            [
                "make",
                "--dry-run",
                "--no-print-directory",
                "--assume-old=setup",
                "--assume-old=check",
                name,
            ],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name not in OUTER_MAKE},
            capture_output=True,
            text=True,
            check=True,
        )
        done[name] = dry.stdout.splitlines()[-1]
    return done


def made(line: str) -> list[str]:
    """Return program and arguments of a line of the Makefile, without ``exec`` and folder."""
    program, *arguments = line.removeprefix("exec ").split()
    return [Path(program).name, *arguments]


def test_the_named_targets_are_made_and_do_what_is_said_of_them() -> None:
    lines = {name: made(line) for name, line in targets().items()}
    assert lines.keys() == {"run", "test", "demo"}
    assert lines["run"] == ["mailstream", "run"]
    assert lines["demo"] == ["mailstream", "demo"]
    assert lines["test"][:3] == ["python", "-m", "pytest"]


def test_every_line_of_the_set_up_is_a_target() -> None:
    commands = [line.partition("#")[0].split() for line in SETUP.splitlines()]
    assert commands == [["make", "run"], ["make", "test"]]


def test_a_first_event_shows_as_promised_and_a_second_time_changes_nothing(shell: Shell) -> None:
    assert shell(POST) == ANSWER
    wait_until(lambda: shell(READ) == SHOWN, "the lines shown", within_s=READY_S)
    assert shell(POST) == ANSWER
    wait_until(lambda: shell(DUPLICATES).endswith(" 1.0\n"), "it was seen", within_s=READY_S)
    assert shell(READ) == SHOWN


def test_every_file_that_is_linked_or_named_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    named = [name for name in re.findall(r"`([\w./-]+\.\w+)`", README) if "/" in name]
    assert links
    assert named
    for name in (*links, *named):
        assert (ROOT / name).is_file(), name
