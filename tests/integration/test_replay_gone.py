"""What Kafka no longer holds is said, before, between and during replays; the rest is replayed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from consumers.replay_reading import Lost, Merged, Span
from consumers.snapshot import connected
from pipeline.core.event import partition_of
from pipeline.core.timestamp import epoch_ms
from pipeline.kit.kafka import client_options
from tests.kit.event_log import EventLog, event_log, numbered
from tests.kit.kafka_admin import admin_of
from tests.kit.replay import replay
from tests.kit.stand import now_ms

pytestmark = pytest.mark.integration

COUNT = 60
MINUTE = 60_000


@pytest.fixture
def log(broker: str) -> Iterator[EventLog]:
    with event_log(broker) as made:
        asyncio.run(made.write(numbered(0, COUNT)))
        yield made


def of_partition(log: EventLog, number: int) -> list[str]:
    """Return the ids of a partition in their order."""
    every = [f"e{one}" for one in range(COUNT)]
    return [one for one in every if partition_of(one.encode(), log.partitions) == number]


def let_go(log: EventLog, partition: int, before: int) -> None:
    """Have Kafka delete what is *before* an offset."""

    async def delete() -> None:
        async with admin_of(log.bootstrap) as admin:
            gone = {TopicPartition(log.topic, partition): RecordsToDelete(before_offset=before)}
            await admin.delete_records(gone)

    asyncio.run(delete())


def test_from_when_on_there_is_data_is_said(log: EventLog, tmp_path: Path) -> None:
    let_go(log, 0, 5)
    path = tmp_path / "out"
    said, count = replay(log, tmp_path, "events", "--to-file", path)
    head, _, tail = said.partition(", which was written ")
    assert head == "partition 0: Kafka holds nothing before offset 5"
    written, _, rest = tail.partition("; ")
    assert rest == "what came before is gone"
    assert now_ms() - 5 * MINUTE < epoch_ms(written) <= now_ms()
    assert count == "55 records would be written, of 55 read; --yes does it"

    said, count = replay(log, tmp_path, "events", "--to-file", path, "--offsets", "0:2-8")
    assert said.endswith("; some of what was asked for is gone")
    assert count == "3 records would be written, of 3 read; --yes does it"

    let_go(log, 0, len(of_partition(log, 0)))
    said, _ = replay(log, tmp_path, "events", "--to-file", path)
    assert said.endswith(", and holds nothing now; what came before is gone")


@pytest.mark.parametrize("into", ["file", "topic"])
def test_what_went_between_two_runs_is_said_and_the_rest_is_written(
    log: EventLog, tmp_path: Path, into: str
) -> None:
    path = tmp_path / "out"
    with event_log(log.bootstrap) as other:
        to: tuple[str | Path, ...] = "--to-file", path
        if into == "topic":
            to = "--into-prefix", other.settings.topics.prefix
        replay(log, tmp_path, "events", *to, "--yes")
        asyncio.run(log.write(numbered(COUNT, COUNT)))
        first = len(of_partition(log, 0))
        let_go(log, 0, first + 3)
        said = replay(log, tmp_path, "events", *to, "--yes", code=1)
        missing = f"partition 0: Kafka let go of offsets {first} to {first + 2} before the replay"
        assert said == [
            f"{missing} came to them; they are missing",
            f"{COUNT - 3} records written, of {COUNT - 3} read",
        ]
        if into == "file":
            found = {
                json.loads(line)["value"]["event_id"] for line in path.read_text().splitlines()
            }
            assert len(found) == 2 * COUNT - 3
        assert replay(log, tmp_path, "events", *to, "--yes") == ["0 records written, of 0 read"]


def test_what_goes_while_a_replay_reads_is_told_and_the_rest_comes(log: EventLog) -> None:
    ids = of_partition(log, 0)

    async def read(*, before: int) -> tuple[list[str], list[Lost]]:
        lost: list[Lost] = []
        span = Span(TopicPartition(log.topic, 0), 2, len(ids), gone=False)
        client = client_options(log.settings.kafka, log.bootstrap)
        async with connected(client, offset_reset="none") as consumer:
            await asyncio.to_thread(let_go, log, 0, before)
            reading = Merged(consumer, [span], lost.append)
            found = [one.value async for some in reading.some() for one in some]
        return [json.loads(value)["event_id"] for value in found], lost

    assert asyncio.run(read(before=9)) == (ids[9:], [Lost(0, 2, 9)])
    assert asyncio.run(read(before=len(ids))) == ([], [Lost(0, 2, len(ids))])
