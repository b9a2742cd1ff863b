"""A store of one's own is one file and a row: it runs, counts, and stores each event once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.kit.event_log import EventLog, event_log, numbered
from tests.kit.processes import Service, wait_until

pytestmark = pytest.mark.integration

COUNT, KILLS = 500, 3
WITHIN_S = 60.0
BAD = b"\xff\xfe"


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    path = folder / "events.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def stored(folder: Path) -> list[str]:
    return [json.loads(value)["event_id"] for (value,) in rows(folder, "SELECT value FROM events")]


def more_than(folder: Path, count: int) -> bool:
    return len(stored(folder)) > count


def sink(log: EventLog, folder: Path) -> Service:
    config = folder / "mailstream.yaml"
    topics = {"prefix": log.settings.topics.prefix, "partitions": log.partitions}
    kafka = {"bootstrap_servers": log.bootstrap}
    config.write_text(json.dumps({"data_dir": str(folder), "topics": topics, "kafka": kafka}))
    command: list[str | Path] = [sys.executable, "-m", "tests.kit.sqlite_sink", config]
    return Service("sink-sqlite", command, folder)


async def write_bad(log: EventLog) -> None:
    async with log.writer() as writer:
        await (await writer.write_value("bad", BAD))


def test_a_sink_of_one_file_stores_each_event_once_through_kills(
    broker: str, tmp_path: Path
) -> None:
    with event_log(broker) as log:
        running = sink(log, tmp_path)
        try:
            for turn in range(KILLS):
                running.start()
                asyncio.run(log.write(numbered(turn * COUNT, COUNT)))
                wait_until(
                    partial(more_than, tmp_path, turn * COUNT), "it stores", within_s=WITHIN_S
                )
                running.kill()
            running.start()
            asyncio.run(write_bad(log))
            wait_until(
                lambda: (
                    len(stored(tmp_path)) >= KILLS * COUNT
                    and rows(tmp_path, "SELECT value FROM refused")
                ),
                "all is stored",
                within_s=WITHIN_S,
            )
            assert sorted(stored(tmp_path)) == sorted(f"e{n}" for n in range(KILLS * COUNT))
            assert rows(tmp_path, "SELECT value FROM refused") == [(BAD,)]
            running.wait_for("/health")
            wait_until(lambda: counted(running), "it is counted", within_s=WITHIN_S)
            assert running.stop() == 0
        finally:
            running.end()


def counted(running: Service) -> bool:
    page = (running.get("/metrics") or (0, ""))[1]
    discarded = 'discarded_events_total{component="sink-sqlite",reason="malformed"} 1.0'
    return f"mailstream_component_{discarded}" in page and "mailstream_sink_lag_records" in page
