"""Members of a consumer group are killed while events flow: at least once, and nothing skipped."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.kit.event_log import EventLog, event_log, numbered
from tests.kit.processes import Program, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

WITHIN_S = 60.0
STEP = 500
KILLS = 2
WANTED = tuple(f"e{number}" for number in range(KILLS * STEP))


def test_killed_members_of_a_group_skip_nothing(broker: str, tmp_path: Path) -> None:
    with event_log(broker) as log:
        noted = tmp_path / "noted"
        noted.touch()
        program = subscriber(log, tmp_path, noted)
        try:
            kill_and_restart(log, program, noted)
        finally:
            program.end()
        assert set(ids(noted)) == set(WANTED)


def kill_and_restart(log: EventLog, program: Program, noted: Path) -> None:
    for step in range(KILLS):
        program.start()
        asyncio.run(log.write(numbered(step * STEP, STEP)))
        before = len(ids(noted))
        # in the middle of its work: some are handled and not yet committed
        wait_until(partial(more_than, before, noted), "it goes on", within_s=WITHIN_S)
        program.kill()
    program.start()
    wait_until(lambda: set(WANTED) <= set(ids(noted)), "nothing is missing", within_s=WITHIN_S)


def subscriber(log: EventLog, folder: Path, noted: Path) -> Program:
    config = folder / "mailstream.yaml"
    config.write_text(
        json.dumps(
            {
                "kafka": {"bootstrap_servers": log.bootstrap},
                "topics": {"prefix": log.settings.topics.prefix, "partitions": log.partitions},
            }
        )
    )
    group = f"{log.settings.topics.prefix}g"
    command: list[str | Path] = [sys.executable, "-m", "tests.kit.subscriber", config, group, noted]
    return Program("subscriber", command, folder)


def more_than(count: int, noted: Path) -> bool:
    return len(ids(noted)) > count


def ids(noted: Path) -> list[str]:
    """Return the ids whose lines are whole."""
    return noted.read_text().split("\n")[:-1]
