"""Bugs of the pure part: one record is lost to the dead letters, never the batch or the worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from pipeline.core.batch import Record, TopicPartition
from pipeline.core.errors import InvariantError
from tests.kit.engine import Place, working
from tests.kit.steps import until

pytestmark = pytest.mark.integration


def _raise_on_poison(_: TopicPartition, records: Sequence[Record]) -> None:
    for record in records:
        if b"poison" in (record.value or b""):
            raise ValueError("cannot read this")


def test_a_record_that_raises_is_set_aside_and_the_others_are_processed(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        ids = [f"a-{number}" for number in range(300)]
        async with working(place) as worker:
            worker.source.before_batch = _raise_on_poison
            await place.write([*ids[:100], "poison-1", *ids[100:]])
            await until(lambda: worker.fold.total == 300)
            assert worker.stats.poison_records == 1
        assert Counter(await place.read("events")) == Counter(ids)
        assert await place.read("dead") == ["poison-1"]

    asyncio.run(scenario())


def test_too_many_bad_records_stop_their_partition_alone(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with working(place) as worker:
            worker.source.before_batch = _raise_on_poison
            bad = TopicPartition(place.sources[0], 0)
            await until(lambda: worker.ready)
            # Two sources and two partitions: every second id of one source goes to partition 0.
            ids = [f"poison-{number}" if number % 2 == 0 else f"a-{number}" for number in range(30)]
            await place.write(ids, sources=["raw.zonemta"])
            await until(lambda: worker.stats.partitions[bad].stopped is not None)
            assert "more than 10 records a minute" in (worker.stats.partitions[bad].stopped or "")
            assert not worker.ready
            await place.write(["b-1", "b-2"], sources=["raw.haraka"])
            await until(lambda: worker.fold.total == 17)
            assert worker.stats.poison_records == 10

    asyncio.run(scenario())


def test_broken_state_stops_the_partition_and_says_why(broker: str) -> None:
    def broken(tp: TopicPartition, _: Sequence[Record]) -> None:
        if tp.partition == 0:
            raise InvariantError("the books do not balance")

    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with working(place) as worker:
            worker.source.before_batch = broken
            await until(lambda: worker.ready)
            await place.write(["a-1", "a-2"], sources=["raw.zonemta"])
            stats = worker.stats.partitions[TopicPartition(place.sources[0], 0)]
            await until(lambda: stats.stopped is not None and worker.fold.total == 1)
            assert stats.stopped == "InvariantError: the books do not balance"
            assert not stats.ready

    asyncio.run(scenario())


def test_a_frame_that_cannot_be_folded_stops_its_partition(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with working(place) as worker:
            await until(lambda: worker.ready)
            deltas = place.names.of("deltas")
            await place.write_raw(deltas, 1, b"not json")
            stats = worker.stats.partitions[TopicPartition(deltas, 1)]
            await until(lambda: stats.stopped is not None)
            assert 1 not in worker.fold.sums
            assert worker.stats.partitions[TopicPartition(deltas, 0)].stopped is None

    asyncio.run(scenario())
