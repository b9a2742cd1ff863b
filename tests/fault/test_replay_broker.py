"""The broker dies, and the replay is killed, while it writes: each record arrives once, in order."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.kit.event_log import EventLog, event_log, numbered
from tests.kit.kafka_read import read_topics
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import Program, wait_until
from tests.kit.replay import command, replay

pytestmark = [pytest.mark.integration, pytest.mark.fault]

COUNT = 2000
WITHIN_S = 120.0
Held = list[tuple[int, bytes | None, bytes]]


def held(log: EventLog) -> Held:
    found = asyncio.run(read_topics(log.bootstrap, [log.topic], log.partitions))
    return [(one.partition, one.key, one.value) for one in found]


def grown(log: EventLog, before: int) -> bool:
    return len(held(log)) > before


async def fill(log: EventLog) -> None:
    """Write events in portions, so that their times differ."""
    for first in range(0, COUNT, 50):
        await log.write(numbered(first, 50))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_replay_whose_broker_goes_says_so_and_goes_on_when_it_is_back(
    kafka: OwnBroker, tmp_path: Path, end: str
) -> None:
    with event_log(kafka.bootstrap) as log, event_log(kafka.bootstrap) as other:
        asyncio.run(fill(log))
        asked = "events", "--into-prefix", other.settings.topics.prefix, "--yes"
        running = Program("replay", command(log, tmp_path, *asked, "--speed", "0.3x"), tmp_path)
        running.start()
        try:
            wait_until(lambda: len(held(other)) > 0, "it goes on", within_s=WITHIN_S)
            getattr(kafka, end)()
            wait_until(lambda: not running.running, "it ends", within_s=WITHIN_S)
            said = running.said()
        finally:
            running.end()
            kafka.ensure()
        assert "mailstream: " in said
        # The client's own log may hold a trace; what we say is a sentence.
        ours = [line for line in said.splitlines() if '"logger":"aiokafka' not in line]
        assert not any("Traceback" in line for line in ours)
        before = len(held(other))
        assert 0 < before < COUNT
        assert replay(log, tmp_path, *asked)[-1] == (
            f"{COUNT - before} records written, of {COUNT - before} read"
        )
        assert held(other) == held(log)


def test_killed_replays_write_each_record_once(kafka: OwnBroker, tmp_path: Path) -> None:
    with event_log(kafka.bootstrap) as log, event_log(kafka.bootstrap) as other:
        asyncio.run(fill(log))
        asked = "events", "--into-prefix", other.settings.topics.prefix, "--yes"
        for _ in range(3):
            before = len(held(other))
            slowly = command(log, tmp_path, *asked, "--speed", "0.3x")
            running = Program("replay", slowly, tmp_path)
            running.start()
            try:
                wait_until(partial(grown, other, before), "it goes on", within_s=WITHIN_S)
                running.kill()
            finally:
                running.end()
        replay(log, tmp_path, *asked)
        assert held(other) == held(log)
