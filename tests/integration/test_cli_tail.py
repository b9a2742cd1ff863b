"""``mailstream tail`` on a real Kafka: JSON lines in a pipe, colours on a terminal, clean ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.event import MailEvent
from tests.kit.event_log import EventLog, event_log
from tests.kit.processes import ROOT, mailstream
from tests.kit.terminal import read_all

pytestmark = pytest.mark.integration

WITHIN_S = 60.0
HOSTILE = "550 \x1b[2J\x9b31m no"


@pytest.fixture(scope="module")
def log(broker: str) -> Iterator[EventLog]:
    with event_log(broker) as made:
        asyncio.run(made.write([mail(number) for number in range(40)]))
        yield made


def mail(number: int) -> MailEvent:
    bounced = number % 4 == 0
    return MailEvent(
        event_id=f"e{number}",
        source="haraka" if number % 2 else "zonemta",
        timestamp="2026-01-02T03:04:05.678Z",
        event_type="bounced" if bounced else "delivered",
        user=f"u{number}@example.com",
        to_domain="gmail.com",
        response_code=550 if bounced else 250,
        response_message=HOSTILE if bounced else "OK",
    )


def command(log: EventLog, folder: Path, *arguments: str) -> list[str | Path]:
    config = folder / "mailstream.yaml"
    topics = {"prefix": log.settings.topics.prefix, "partitions": log.partitions}
    kafka = {"bootstrap_servers": log.bootstrap}
    config.write_text(json.dumps({"topics": topics, "kafka": kafka}))
    return mailstream("tail", "--config", config, *arguments)


def tailed(log: EventLog, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    ran = subprocess.run(
        command(log, folder, *arguments), capture_output=True, check=True, cwd=ROOT, timeout=60
    )
    assert ran.stderr == b""
    return [json.loads(line) for line in ran.stdout.splitlines()]


def numbers(events: Sequence[dict[str, Any]]) -> set[int]:
    return {int(event["event_id"][1:]) for event in events}


def test_a_pipe_gets_the_wanted_events_as_json(log: EventLog, tmp_path: Path) -> None:
    every = tailed(log, tmp_path, "--since", "1h", "--count", "40")
    assert numbers(every) == set(range(40))
    assert MailEvent(**every[0]) == mail(int(every[0]["event_id"][1:]))
    where = "event_type == 'bounced' and user != 'u0@example.com'"
    some = tailed(log, tmp_path, "--since", "1h", "--count", "9", "--where", where)
    assert numbers(some) == set(range(4, 40, 4))
    haraka = tailed(log, tmp_path, "--since", "1h", "--count", "20", "--source", "haraka")
    assert numbers(haraka) == set(range(1, 40, 2))


def test_a_terminal_gets_coloured_lines_and_no_commands_of_others(
    log: EventLog, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        ["env", "TERM=xterm-256color", *command(log, tmp_path, "--since", "1h", "--count", "40")],
        stdout=theirs,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    os.close(theirs)
    shown = read_all(ours)
    os.close(ours)
    _out, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (0, b"")
    text = shown.decode()
    assert "\x1b[31mbounced" in text
    assert "03:04:05.678" in text
    assert "u8@example.com" in text
    assert "\x1b[2J" not in text
    assert "\x9b" not in text


def test_ctrl_c_ends_it_without_a_word(log: EventLog, tmp_path: Path) -> None:
    running = subprocess.Popen(
        command(log, tmp_path, "--since", "1h"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert running.stdout is not None
    assert running.stdout.readline().startswith(b"{")
    running.send_signal(signal.SIGINT)
    _out, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (0, b"")


def test_a_closed_pipe_ends_it_at_once_and_without_a_word(log: EventLog, tmp_path: Path) -> None:
    running = subprocess.Popen(
        command(log, tmp_path, "--since", "1h"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stdout.readline().startswith(b"{")
    running.stdout.close()
    with running.stderr:
        assert running.wait(WITHIN_S) == 1
        assert running.stderr.read() == b""


def test_kafka_away_is_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "mailstream.yaml"
    config.write_text(json.dumps({"kafka": {"bootstrap_servers": "127.0.0.1:1"}}))
    for arguments in (
        ["tail"],
        ["dead", "list"],
        ["dead", "retry", "--all"],
        ["dead", "show", "0:0"],
    ):
        ran = subprocess.run(
            mailstream(*arguments, "--config", config), capture_output=True, cwd=ROOT, check=False
        )
        assert ran.returncode == 1
        assert ran.stderr.startswith(b"mailstream: Kafka at 127.0.0.1:1 does not answer: ")
        assert ran.stderr.count(b"\n") == 1
