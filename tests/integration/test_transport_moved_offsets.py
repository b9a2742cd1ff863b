"""Offsets that an operator moved or deleted: what was seen stays seen."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from pipeline.core.batch import TopicPartition
from pipeline.core.seen import HASH, VERSION, SeenRun, Segment, encode_run
from pipeline.transport.options import EngineOptions
from pipeline.transport.warmup import LastRun, WarmUp
from tests.kit.engine import Place, working
from tests.kit.steps import until

pytestmark = pytest.mark.integration

IDS = [f"a-{number}" for number in range(40)]


def test_deleted_offsets_double_nothing(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        await place.write(IDS)
        async with working(place) as worker:
            await until(lambda: worker.fold.total == len(IDS))
        await place.forget_offsets()
        await place.write(["b-1"])
        async with working(place) as worker:
            await until(lambda: worker.fold.total >= len(IDS) + 1)
        assert Counter(await place.read("events")) == Counter([*IDS, "b-1"])

    asyncio.run(scenario())


def run_of(tp: TopicPartition, start: int, end: int) -> bytes:
    hashes = np.arange(start, end).astype(HASH).tobytes()
    return encode_run(SeenRun(VERSION, *tp, start, end, 0, [Segment(0, hashes)]))


@pytest.mark.parametrize(
    ("last", "runs"),
    [
        (LastRun(10, 3000), 3),  # not the first one that ends there
        (LastRun(10, 1000), 1),
        (LastRun(20, 2000), 2),
        (LastRun(10, 9999), 4),  # its time is not as its writer gave it: all there is
        (None, 4),
    ],
)
def test_a_warm_up_ends_at_the_run_of_the_last_commit(
    broker: str, last: LastRun | None, runs: int
) -> None:
    """The source was read, moved back to its beginning, and is being read again."""

    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        tp, seen = TopicPartition(place.sources[0], 0), TopicPartition(place.names.of("seen"), 0)
        written = [
            (run_of(tp, start, start + 10), time_ms)
            for start, time_ms in ((0, 1000), (10, 2000), (0, 3000), (10, 4000))
        ]
        producer = AIOKafkaProducer(bootstrap_servers=broker)
        await producer.start()
        for value, time_ms in written:
            await producer.send_and_wait(seen.topic, value, partition=0, timestamp_ms=time_ms)
        await producer.stop()
        options = EngineOptions(
            client={"bootstrap_servers": broker},
            commit_interval_ms=50,
            fold_horizon_ms=1,
            seen_horizon_ms=1,
        )
        found: list[bytes] = []
        met = await WarmUp(tp, seen, last, 0).read(options, found.append)
        assert found == [value for value, _ in written[:runs]]
        assert met == (last is not None)

    asyncio.run(scenario())
