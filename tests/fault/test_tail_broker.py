"""``mailstream tail`` while Kafka is away: it waits, goes on, and ends at once when asked to."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.event_log import EventLog, event_log, numbered
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import ROOT, mailstream

pytestmark = [pytest.mark.integration, pytest.mark.fault]

ENDS_S = 30.0


@contextmanager
def tail(log: EventLog, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield one that runs; in the end it does not."""
    config = folder / "mailstream.yaml"
    topics = {"prefix": log.settings.topics.prefix, "partitions": log.partitions}
    kafka = {"bootstrap_servers": log.bootstrap}
    config.write_text(json.dumps({"topics": topics, "kafka": kafka}))
    running = subprocess.Popen(
        mailstream("tail", "--config", config, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def shown(running: subprocess.Popen[bytes], count: int) -> set[str]:
    assert running.stdout is not None
    return {json.loads(running.stdout.readline())["event_id"] for _ in range(count)}


def test_it_goes_on_when_kafka_is_back(kafka: OwnBroker, tmp_path: Path) -> None:
    with event_log(kafka.bootstrap) as log:
        asyncio.run(log.write(numbered(0, 20)))
        with tail(log, tmp_path, "--since", "1h", "--count", "40") as running:
            assert shown(running, 20) == {f"e{number}" for number in range(20)}
            kafka.stop()
            kafka.start()
            asyncio.run(log.write(numbered(20, 20)))
            assert shown(running, 20) == {f"e{number}" for number in range(20, 40)}
            assert running.wait(ENDS_S) == 0
            assert running.stderr is not None
            assert b"Traceback" not in running.stderr.read()


def test_ctrl_c_ends_it_while_kafka_is_away(kafka: OwnBroker, tmp_path: Path) -> None:
    with event_log(kafka.bootstrap) as log:
        asyncio.run(log.write(numbered(0, 20)))
        with tail(log, tmp_path, "--since", "1h") as running:
            shown(running, 20)
            kafka.stop()
            try:
                running.send_signal(signal.SIGINT)
                assert running.wait(ENDS_S) == 0
                assert running.stderr is not None
                assert b"Traceback" not in running.stderr.read()
            finally:
                kafka.start()
