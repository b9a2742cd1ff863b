"""The appender before a real broker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from pipeline.core.batch import Output, OutRecord
from pipeline.core.errors import Backpressure
from pipeline.kit.clock import SystemClock
from producers.appender import BATCH_BYTES, Appender
from tests.kit.kafka_admin import admin_of
from tests.kit.kafka_read import Read, read_topics

pytestmark = pytest.mark.integration

PARTITIONS = 2
LIMIT = 64 << 20
STOP_S = 20.0
HEADERS = [("id", b"1")]


@asynccontextmanager
async def topic(bootstrap: str) -> AsyncIterator[str]:
    name = f"t{uuid.uuid4().hex}"
    async with admin_of(bootstrap) as admin:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        yield name
        await admin.delete_topics([name])


@asynccontextmanager
async def appender(bootstrap: str, name: str, limit: int = LIMIT) -> AsyncIterator[Appender]:
    options = {"bootstrap_servers": bootstrap}
    made = Appender(options, [name], PARTITIONS, SystemClock(), buffer_bytes=limit)
    await made.start()
    try:
        while made.trouble is not None:  # noqa: ASYNC110  a state, of which nobody is told
            await asyncio.sleep(0.01)
        yield made
    finally:
        await made.stop()


def run(bootstrap: str, test: Callable[[str], Awaitable[Any]]) -> list[Read]:
    async def within() -> list[Read]:
        async with topic(bootstrap) as name:
            await test(name)
            return await read_topics(bootstrap, [name], PARTITIONS)

    return asyncio.run(within())


def output(name: str, partition: int, *values: bytes) -> Output:
    return Output(name, partition, [OutRecord(value, b"k", HEADERS) for value in values])


def test_many_appends_at_once_are_all_written_each_partition_in_order(broker: str) -> None:
    async def append(name: str) -> None:
        async with appender(broker, name) as to:
            posts = (
                to.append([output(name, part, b"%d" % number) for part in range(PARTITIONS)])
                for number in range(500)
            )
            await asyncio.gather(*posts)
            assert to.buffer_bytes == 0

    found = run(broker, append)
    for part in range(PARTITIONS):
        values = [int(one.value) for one in found if one.partition == part]
        assert values == list(range(500))


def test_an_append_larger_than_a_batch_is_split_and_kept_in_order(broker: str) -> None:
    values = [b"%06d" % number + b"x" * 100_000 for number in range(35)]

    async def append(name: str) -> None:
        async with appender(broker, name) as to:
            await to.append([output(name, 1, *values)])

    assert sum(map(len, values)) > 3 * BATCH_BYTES
    assert [one.value for one in run(broker, append)] == values


def test_a_full_buffer_refuses_before_it_takes_anything(broker: str) -> None:
    async def append(name: str) -> None:
        async with appender(broker, name, limit=1) as to:
            first = asyncio.create_task(to.append([output(name, 0, b"first")]))
            await asyncio.sleep(0)
            with pytest.raises(Backpressure) as refused:
                await to.append([output(name, 0, b"second")])
            assert refused.value.retry_after_s
            await first
            await to.append([output(name, 0, b"third")])

    assert [one.value for one in run(broker, append)] == [b"first", b"third"]


def test_what_is_held_at_a_stop_is_still_written(broker: str) -> None:
    async def append(name: str) -> None:
        async with appender(broker, name) as to:
            posts = [
                asyncio.create_task(to.append([output(name, 0, b"%d" % number)]))
                for number in range(20)
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*posts)

    assert len(run(broker, append)) == 20


@asynccontextmanager
async def troubled_appender(bootstrap: str, name: str) -> AsyncIterator[Appender]:
    """Yield an appender that has just found that its topic has not the width that it expects."""
    options = {"bootstrap_servers": bootstrap}
    wrong = Appender(options, [name], PARTITIONS + 1, SystemClock(), buffer_bytes=LIMIT)
    await wrong.start()
    try:
        while "expected 3" not in (wrong.trouble or ""):  # noqa: ASYNC110  as above
            await asyncio.sleep(0)
        yield wrong
    finally:
        async with asyncio.timeout(STOP_S):
            await wrong.stop()


def test_a_stop_ends_whatever_its_connection_is_at(broker: str) -> None:
    async def stop(name: str) -> None:
        for turns in range(20):
            async with troubled_appender(broker, name):
                for _ in range(turns):
                    await asyncio.sleep(0)

    assert run(broker, stop) == []


def test_topics_of_another_width_are_a_trouble_that_is_named(broker: str) -> None:
    async def connect(name: str) -> None:
        async with troubled_appender(broker, name) as wrong:
            with pytest.raises(Backpressure):
                await wrong.append([output(name, 0, b"x")])

    assert run(broker, connect) == []
