"""``mailstream replay`` on a real Kafka: to files and to other prefixes, whole, once, gone on with."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.timestamp import rfc3339
from tests.kit.event_log import EventLog, event_log, numbered
from tests.kit.kafka_read import Read, read_topics
from tests.kit.processes import ROOT, Program, wait_until
from tests.kit.raw_log import RawWriter, raw_record
from tests.kit.replay import command, replay
from tests.kit.stand import now_ms
from tests.kit.terminal import read_all

pytestmark = pytest.mark.integration

COUNT = 300
APART_MS = 100
WITHIN_S = 60.0
Replayed = list[tuple[int, bytes | None, bytes, tuple[tuple[str, bytes], ...]]]


@pytest.fixture(scope="module")
def begun_ms() -> int:
    return now_ms() - COUNT * APART_MS


@pytest.fixture(scope="module")
def log(broker: str, begun_ms: int) -> Iterator[EventLog]:
    """Return a prefix with raw records, one each tenth of a second, and some events."""

    async def fill(made: EventLog) -> None:
        raw = made.settings.topics.names.of("raw.zonemta")
        async with RawWriter(made.bootstrap, raw, made.partitions) as writer:
            await writer.write(
                raw_record(
                    {"event_id": f"e{number}"},
                    "zonemta",
                    begun_ms + number * APART_MS,
                    origin="mta2" if number % 10 == 0 else "mta1",
                )
                for number in range(COUNT)
            )
        await made.write([*numbered(0, 60), *numbered(60, 40, user="alice@example.com")])

    with event_log(broker) as made:
        asyncio.run(fill(made))
        yield made


@pytest.fixture
def other(broker: str) -> Iterator[EventLog]:
    with event_log(broker) as made:
        yield made


def raw_of(log: EventLog) -> Replayed:
    """Return what the raw topic of *log* holds, by partition in order, without offsets."""
    topic = log.settings.topics.names.of("raw.zonemta")
    found: list[Read] = asyncio.run(read_topics(log.bootstrap, [topic], log.partitions))
    return [(one.partition, one.key, one.value, one.headers) for one in found]


def goes_on(running: Program, target: EventLog) -> bool:
    assert running.running, running.said()
    return len(raw_of(target)) > COUNT // 10


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_without_yes_it_only_counts(log: EventLog, tmp_path: Path) -> None:
    path = tmp_path / "out"
    said = replay(log, tmp_path, "events", "--to-file", path, "--where", "user != None")
    assert said == ["40 records would be written, of 100 read; --yes does it"]
    assert not path.exists()


def test_a_file_gets_what_is_wanted_in_the_order_of_time_and_is_gone_on_with(
    log: EventLog, tmp_path: Path, begun_ms: int
) -> None:
    path = tmp_path / "out"
    times = rfc3339(begun_ms + 100 * APART_MS), rfc3339(begun_ms + 200 * APART_MS)
    asked = "raw.zonemta", "--to-file", path, "--from", times[0], "--until", times[1], "--yes"
    assert replay(log, tmp_path, *asked) == ["100 records written, of 100 read"]
    found = lines_of(path)
    assert [one["value"]["event_id"] for one in found] == [f"e{n}" for n in range(100, 200)]
    assert found[0]["headers"]["source"] == "zonemta"
    assert path.stat().st_mode & 0o077 == 0

    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (said,) = replay(log, tmp_path, *asked)
    assert "records written" in said
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert replay(log, tmp_path, *asked) == ["0 records written, of 0 read"]


def test_offsets_of_some_partitions_are_a_range(log: EventLog, tmp_path: Path) -> None:
    path = tmp_path / "out"
    spans = "--offsets", "0:3-7", "--offsets", "1:0-2"
    assert replay(log, tmp_path, "events", "--to-file", path, *spans, "--yes") == [
        "6 records written, of 6 read"
    ]
    places = sorted((one["partition"], one["offset"]) for one in lines_of(path))
    assert places == [(0, 3), (0, 4), (0, 5), (0, 6), (1, 0), (1, 1)]
    (said,) = replay(log, tmp_path, "events", "--to-file", path, "--offsets", "9:0-1", code=2)
    assert said.endswith("has no partition 9")


def test_another_prefix_gets_the_same_bytes_once_although_the_replay_is_killed(
    log: EventLog, other: EventLog, tmp_path: Path
) -> None:
    asked = "raw.zonemta", "--into-prefix", other.settings.topics.prefix
    slowly = command(log, tmp_path, *asked, "--speed", "5x", "--yes")
    running = Program("replay", slowly, tmp_path)
    running.start()
    try:
        wait_until(lambda: goes_on(running, other), "it goes on", within_s=WITHIN_S)
        running.kill()
    finally:
        running.end()
    before = len(raw_of(other))
    assert before < COUNT
    (said,) = replay(log, tmp_path, *asked, "--yes")
    assert said == f"{COUNT - before} records written, of {COUNT - before} read"
    assert raw_of(other) == raw_of(log)

    nobody = "--where", "user == 'nobody'"
    assert replay(log, tmp_path, "events", *asked[1:], *nobody, "--yes") == [
        "0 records written, of 100 read"
    ]
    assert replay(log, tmp_path, "events", *asked[1:], *nobody, "--yes") == [
        "0 records written, of 0 read"
    ]


def test_raw_records_are_filtered_by_what_their_headers_tell(
    log: EventLog, tmp_path: Path, begun_ms: int
) -> None:
    path = tmp_path / "out"
    since = rfc3339(begun_ms + 150 * APART_MS)
    where = f"origin == 'mta2' and source == 'zonemta' and received >= '{since}'"
    asked = "raw.zonemta", "--to-file", path, "--where"
    assert replay(log, tmp_path, *asked, where, "--yes", "--speed", "max") == [
        "15 records written, of 300 read"
    ]
    assert [one["value"]["event_id"] for one in lines_of(path)] == [
        f"e{number}" for number in range(150, 300, 10)
    ]
    refused = replay(log, tmp_path, *asked, "user == 'a'", code=2)
    assert "user is not known here, only event_id, source, feed, origin, received" in refused[-1]


def test_another_topic_gets_the_same_bytes_and_never_one_of_the_pipeline(
    log: EventLog, other: EventLog, tmp_path: Path
) -> None:
    target = other.settings.topics.names.of("raw.haraka")
    asked = "raw.zonemta", "--into-topic", target
    assert replay(log, tmp_path, *asked) == replay(log, tmp_path, *asked, "--dry-run")
    assert replay(log, tmp_path, *asked, "--yes") == [f"{COUNT} records written, of {COUNT} read"]
    found = asyncio.run(read_topics(log.bootstrap, [target], log.partitions))
    assert [(one.partition, one.key, one.value, one.headers) for one in found] == raw_of(log)
    assert replay(log, tmp_path, *asked, "--yes") == ["0 records written, of 0 read"]
    own = log.settings.topics.names
    for wrong in (own.of("raw.zonemta"), own.of("events"), "__consumer_offsets", ""):
        refused = replay(log, tmp_path, "raw.zonemta", "--into-topic", wrong, "--yes", code=2)
        assert refused[-1].startswith("Error: --into-topic: topics of "), refused
    (said,) = replay(log, tmp_path, "events", "--into-topic", "nothing", "--yes", code=2)
    assert "nothing has 0 partitions, expected 2" in said


def test_a_terminal_gets_a_bar_with_what_is_left(log: EventLog, tmp_path: Path) -> None:
    asked = "raw.zonemta", "--to-file", tmp_path / "out", "--speed", "20x", "--yes"
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        ["env", "TERM=xterm-256color", "COLUMNS=120", *command(log, tmp_path, *asked)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=ROOT,
    )
    os.close(theirs)
    shown = read_all(ours).decode()
    os.close(ours)
    said, _ = running.communicate(timeout=WITHIN_S)
    assert (running.returncode, said) == (0, b"300 records written, of 300 read\n")
    assert "replaying" in shown
    assert f"/{COUNT}" in shown
    assert re.search(r"left\W*(?:\[\w*m|\s)*0:00:0\d", shown), shown


@pytest.mark.parametrize("into", ["file", "prefix"])
def test_ctrl_c_ends_it_in_order_and_it_goes_on_later(
    log: EventLog, other: EventLog, tmp_path: Path, into: str
) -> None:
    path, prefix = tmp_path / "out", other.settings.topics.prefix
    to = ("--to-file", path) if into == "file" else ("--into-prefix", prefix)
    asked = "raw.zonemta", *to, "--yes"
    running = subprocess.Popen(
        command(log, tmp_path, *asked, "--speed", "2x"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        wait_until(
            lambda: (path.exists() and path.stat().st_size) or raw_of(other),
            "it goes on",
            within_s=WITHIN_S,
        )
        running.send_signal(signal.SIGINT)
        out, errors = running.communicate(timeout=WITHIN_S)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 1
    assert (out, errors.strip()) == (b"", b"mailstream: interrupted")
    (said,) = replay(log, tmp_path, *asked)
    rest = int(said.split()[0])
    assert 0 < rest < COUNT
    if into == "prefix":
        assert raw_of(other) == raw_of(log)
    else:
        assert len(lines_of(path)) == COUNT


def test_a_target_that_does_not_fit_is_refused(log: EventLog, tmp_path: Path) -> None:
    own = log.settings.topics.prefix
    refused = replay(log, tmp_path, "events", "--into-prefix", own, code=2)
    assert refused[-1].endswith("a topic is no target of itself")
    assert replay(log, tmp_path, "events", "--into-prefix", "no such", code=2)[-1].startswith(
        "Error:"
    )
    (said,) = replay(log, tmp_path, "events", "--into-prefix", f"{own}x.", "--yes", code=2)
    assert "has 0 partitions, expected 2" in said
    notes = tmp_path / "notes"
    notes.write_text("mine\n")
    (said,) = replay(log, tmp_path, "events", "--to-file", notes, "--yes", code=1)
    assert said == f"mailstream: {notes}: this is no replay of {log.topic}"
