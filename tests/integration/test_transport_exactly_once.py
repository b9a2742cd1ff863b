"""The engine on a real broker: each id once on the events, once in the sums."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pipeline.core.batch import TopicPartition
from tests.kit.engine import PARTITIONS, Place, Worker, working
from tests.kit.steps import until

pytestmark = pytest.mark.integration


def _ids(count: int, start: int = 0) -> list[str]:
    return [f"{number % 7}-{number}" for number in range(start, start + count)]


def test_every_id_is_copied_and_counted_once(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        ids = _ids(5000)
        async with working(place) as worker:
            await until(lambda: worker.ready)
            await place.write(ids)
            await place.write(ids[:500])
            await until(lambda: worker.fold.total == len(ids))
            assert worker.stats.transactions > 0
            assert worker.stats.transactions_failed == 0
        assert Counter(await place.read("events")) == Counter(ids)

    asyncio.run(scenario())


def test_a_worker_that_comes_later_knows_what_was_seen_and_folded(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        ids = _ids(2000)
        await place.write(ids)
        async with working(place) as worker:
            await until(lambda: worker.fold.total == len(ids))
        await place.write(ids)
        async with working(place) as worker:
            await until(lambda: worker.ready)
            assert worker.fold.total == len(ids)
            assert sum(worker.source.warmed.values()) > 0
            await place.write(_ids(10, start=2000))
            await until(lambda: worker.fold.total == len(ids) + 10)
        assert Counter(await place.read("events")) == Counter(_ids(2010))

    asyncio.run(scenario())


def test_partitions_move_to_a_second_worker_and_back(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with working(place) as first:
            await until(lambda: first.ready)
            await place.write(_ids(1000))
            async with working(place) as second:
                await until(lambda: second.ready and len(first.stats.partitions) < 6)
                await place.write(_ids(2000))
                await until(lambda: first.fold.total + second.fold.total == 2000)
                assert set(first.fold.sums) | set(second.fold.sums) == set(range(PARTITIONS))
                assert not set(first.fold.sums) & set(second.fold.sums)
            await until(lambda: first.ready and len(first.stats.partitions) == 6)
            await place.write(_ids(2500))
            await until(lambda: first.fold.total == 2500)
        assert Counter(await place.read("events")) == Counter(_ids(2500))

    asyncio.run(scenario())


def test_a_partition_that_stays_through_rebalances_keeps_its_state(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with working(place) as first:
            await until(lambda: first.ready)
            await place.write(_ids(500))
            await until(lambda: first.fold.total == 500)
            for _ in range(3):
                second = Worker(place)
                await second.start()
                await until(lambda: second.ready and first.ready)  # noqa: B023  awaited here
                await second.stop()
                await until(lambda: first.ready and len(first.stats.partitions) == 6)
            assert min(first.fold.opened.values()) == 1
            assert min(first.source.opened.values()) == 1
            await place.write(_ids(700))
            await until(lambda: first.fold.total == 700)
        assert Counter(await place.read("events")) == Counter(_ids(700))

    asyncio.run(scenario())


def test_what_the_engine_says_of_itself_is_true(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with working(place) as worker:
            await until(lambda: worker.ready)
            await place.write(_ids(100), sources=["raw.zonemta"])
            await until(lambda: worker.fold.total == 100)
            partition = worker.stats.partitions[TopicPartition(place.sources[0], 0)]
            await until(lambda: partition.position == partition.high_watermark == 50)
            deltas = worker.stats.partitions[TopicPartition(place.names.of("deltas"), 0)]
            await until(lambda: deltas.position == deltas.high_watermark > 0)
            assert deltas.last_stable_offset == deltas.high_watermark
            assert worker.stats.rebalances == 1
            assert worker.stats.last_heartbeat_ms > 0
            assert worker.stats.last_commit_ms > 0
            assert set(worker.stats.refold_s) == {0, 1}
            assert sum(worker.stats.transaction_s.counts) == worker.stats.transactions

    asyncio.run(scenario())


def test_batches_that_get_lost_on_their_way_are_read_again(broker: str) -> None:
    async def scenario() -> None:
        place = Place(broker)
        await place.create()
        async with working(place) as worker:
            await until(lambda: worker.ready)
            worker.lose = 3  # the next batches, of whatever partition
            for start in range(0, 600, 100):
                await place.write(_ids(100, start))
            await until(lambda: worker.fold.total == 600)
            assert worker.lose == 0
        assert Counter(await place.read("events")) == Counter(_ids(600))

    asyncio.run(scenario())
