"""The commands that meet Kafka, as an operator types them."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mailstream.processes import identity
from pipeline.core.topics import TOPICS

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def mailstream(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mailstream", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_topics_are_created_and_described(broker: str, tmp_path: Path) -> None:
    prefix = f"c{uuid.uuid4().hex}."
    config = tmp_path / "mailstream.yaml"
    config.write_text(
        f'{{kafka: {{bootstrap_servers: "{broker}"}}, topics: {{prefix: "{prefix}", partitions: 2}}}}'
    )
    for _ in range(2):
        created = mailstream(tmp_path, "topics", "create")
        assert created.returncode == 0, created.stderr
        assert created.stdout == f"{len(TOPICS)} topics {prefix}* with 2 partitions each\n"
    described = mailstream(tmp_path, "topics", "describe")
    rows = [line.split("\t") for line in described.stdout.splitlines()]
    assert rows[0] == ["topic", "partitions", "replicas", "retention", "bytes", "records", "holds"]
    assert [row[0] for row in rows[1:]] == [prefix + topic.name for topic in TOPICS]
    assert {tuple(row[1:3]) for row in rows[1:]} == {("2", "1")}
    assert rows[1][3:6] == ["7d", "-", "0"]

    config.write_text(config.read_text().replace("partitions: 2", "partitions: 3"))
    refused = mailstream(tmp_path, "topics", "create")
    assert refused.returncode == 2
    assert "has 2 partitions, expected 3" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_broker_that_is_away_is_one_sentence_and_one(tmp_path: Path) -> None:
    config = tmp_path / "mailstream.yaml"
    config.write_text('kafka: {bootstrap_servers: "127.0.0.1:1"}')
    called = mailstream(tmp_path, "topics", "describe")
    assert called.returncode == 1
    (sentence,) = called.stderr.splitlines()
    assert sentence.startswith("mailstream: Kafka at 127.0.0.1:1 does not answer: ")


def test_the_local_broker_starts_in_the_background_and_stops(tmp_path: Path) -> None:
    started = mailstream(tmp_path, "kafka", "start")
    try:
        assert started.returncode == 0, started.stderr
        address = started.stdout.strip()
        again = mailstream(tmp_path, "kafka", "start")
        assert (again.returncode, again.stdout.strip()) == (0, address)
        status = mailstream(tmp_path, "kafka", "status")
        assert status.returncode == 0
        assert status.stdout.startswith(f"running at {address}, pid ")
        pid = int(status.stdout.splitlines()[0].rpartition(" ")[2])
        assert identity(pid)
        described = mailstream(tmp_path, "topics", "describe")
        assert described.returncode == 0, described.stderr
        assert described.stdout.count("missing") == len(TOPICS)
    finally:
        stopped = mailstream(tmp_path, "kafka", "stop")
    assert stopped.stdout == "stopped\n"
    assert identity(pid) is None
    assert mailstream(tmp_path, "kafka", "status").returncode == 1
