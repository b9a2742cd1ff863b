"""Subscribing to ``mail.events`` on a real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from consumers.filters import having
from consumers.place import Place
from consumers.start import Beginning, Now, Offsets, Since
from consumers.subscribe import Placed, subscribe, subscribe_batches
from pipeline.core.errors import ConfigError, TransientError
from tests.kit.event_log import EventLog, encode, event_log, numbered
from tests.kit.kafka_admin import admin_of
from tests.kit.steps import until

pytestmark = pytest.mark.integration

SOON_S = 30.0
BEGINNING = Beginning()


@pytest.fixture
def log(broker: str) -> Iterator[EventLog]:
    with event_log(broker) as made:
        yield made


def ids(placed: list[Placed]) -> set[str | None]:
    return {one.event.event_id for one in placed}


async def some(events: AsyncGenerator[Placed, None], count: int) -> list[Placed]:
    """Return the next events, all of them handled."""
    found = []
    async with asyncio.timeout(SOON_S):
        for _ in range(count):
            found.append(await anext(events))  # noqa: PERF401  a timeout should tell how far it came
    return found


async def next_of_each(log: EventLog, **options: Any) -> list[Placed]:
    """Return the next events by a mark that is written once they are asked for."""
    async with aclosing(subscribe(log.settings, log.bootstrap, **options)) as events:
        return await some(events, 1)


def test_every_committed_event_comes_once_with_its_place_in_the_order_of_its_partition(
    log: EventLog,
) -> None:
    async def read() -> list[Placed]:
        async with log.writer(transactional=True) as writer:
            for first, end in ((0, "commit"), (100, "abort"), (200, "commit")):
                await writer.producer.begin_transaction()
                await writer.write(numbered(first, 50))
                await getattr(writer.producer, f"{end}_transaction")()
        async with aclosing(subscribe(log.settings, log.bootstrap, start=BEGINNING)) as events:
            return await some(events, 100)

    found = asyncio.run(read())
    assert ids(found) == {f"e{number}" for number in (*range(50), *range(200, 250))}
    assert {one.place.topic for one in found} == {log.topic}
    for partition in range(log.partitions):
        offsets = [one.place.offset for one in found if one.place.partition == partition]
        assert offsets == sorted(set(offsets))
        assert offsets


def test_only_wanted_events_come_singly_or_in_batches(log: EventLog) -> None:
    async def read() -> tuple[list[Placed], list[Placed]]:
        await log.write([*numbered(0, 40, source="zonemta"), *numbered(40, 40, source="haraka")])
        wanted: dict[str, Any] = {"where": having(source="haraka"), "start": BEGINNING}
        async with aclosing(subscribe(log.settings, log.bootstrap, **wanted)) as events:
            singly = await some(events, 40)
        batched: list[Placed] = []
        async with aclosing(subscribe_batches(log.settings, log.bootstrap, **wanted)) as batches:
            while len(batched) < 40:
                batched += await anext(batches)
        return singly, batched

    singly, batched = asyncio.run(read())
    assert ids(singly) == ids(batched) == {f"e{number}" for number in range(40, 80)}


def test_now_a_time_and_offsets_are_places_to_start(log: EventLog) -> None:
    async def read() -> None:
        await log.write(numbered(0, 20))
        await asyncio.sleep(0.01)  # the record times of what follows are later
        between_ms = time.time_ns() // 1_000_000
        await log.write(numbered(20, 20))

        async with aclosing(
            subscribe(log.settings, log.bootstrap, start=Since(between_ms))
        ) as events:
            assert ids(await some(events, 20)) == {f"e{number}" for number in range(20, 40)}

        async with aclosing(subscribe(log.settings, log.bootstrap, start=BEGINNING)) as events:
            everything = await some(events, 40)
        first = [one for one in everything if one.place.partition == 0]
        after = Offsets({0: first[5].place.offset, 1: 1_000_000})
        async with aclosing(subscribe(log.settings, log.bootstrap, start=after)) as events:
            assert await some(events, len(first) - 5) == first[5:]

        async with aclosing(subscribe(log.settings, log.bootstrap, start=Now())) as events:
            waiting = asyncio.ensure_future(anext(events))
            number = 40
            while not waiting.done():  # whether it has begun to listen shows in what it gets
                await log.write(numbered(number, 1))
                number += 1
            assert int((waiting.result().event.event_id or "")[1:]) >= 40

    asyncio.run(read())


def test_a_group_goes_on_after_what_was_handled_and_repeats_what_was_not(log: EventLog) -> None:
    options: dict[str, Any] = {"group": f"{log.settings.topics.prefix}g", "start": BEGINNING}

    async def read() -> None:
        await log.write(numbered(0, 30))
        async with aclosing(subscribe(log.settings, log.bootstrap, **options)) as events:
            first = await some(events, 12)  # the last one's turn does not end
        async with aclosing(subscribe(log.settings, log.bootstrap, **options)) as events:
            rest = await some(events, 19)
        assert first[-1] in rest
        assert ids(first) | ids(rest) == {f"e{number}" for number in range(30)}

    asyncio.run(read())


def test_a_batch_that_was_not_handled_comes_again(log: EventLog) -> None:
    options: dict[str, Any] = {"group": f"{log.settings.topics.prefix}g", "start": BEGINNING}

    async def read() -> None:
        await log.write(numbered(0, 30))
        handled: list[Placed] = []
        async with aclosing(subscribe_batches(log.settings, log.bootstrap, **options)) as batches:
            while len(handled) < 30:
                handled += await anext(batches)
            await log.write(numbered(30, 5))
            unhandled = await anext(batches)
        again: list[Placed] = []
        async with aclosing(subscribe_batches(log.settings, log.bootstrap, **options)) as batches:
            while len(ids(again)) < 5:
                again += await anext(batches)
        assert ids(unhandled) <= ids(again)
        assert not ids(again) & ids(handled)

    asyncio.run(read())


def test_cancelled_in_the_middle_it_commits_what_was_handled(log: EventLog) -> None:
    options: dict[str, Any] = {"group": f"{log.settings.topics.prefix}g", "start": BEGINNING}

    async def read() -> None:
        handled: list[Placed] = []
        waiting = asyncio.Event()

        async def work() -> None:
            async with aclosing(subscribe(log.settings, log.bootstrap, **options)) as events:
                async for placed in events:
                    if len(handled) == 10:
                        waiting.set()
                        await asyncio.Event().wait()
                    handled.append(placed)

        await log.write(numbered(0, 20))
        working = asyncio.create_task(work())
        async with asyncio.timeout(SOON_S):
            await waiting.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        async with aclosing(subscribe(log.settings, log.bootstrap, **options)) as events:
            rest = await some(events, 10)
        assert ids(handled) | ids(rest) == {f"e{number}" for number in range(20)}

    asyncio.run(read())


def test_a_group_that_began_at_the_end_keeps_that_place(log: EventLog) -> None:
    options: dict[str, Any] = {"group": f"{log.settings.topics.prefix}g", "start": Now()}

    async def read() -> None:
        await log.write(numbered(0, 10))
        async with aclosing(subscribe(log.settings, log.bootstrap, **options)) as events:
            waiting = asyncio.ensure_future(anext(events))
            await _until_committed(log, options["group"])
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await log.write(numbered(10, 10))  # while nobody listens
        async with aclosing(subscribe(log.settings, log.bootstrap, **options)) as events:
            assert ids(await some(events, 10)) == {f"e{number}" for number in range(10, 20)}

    asyncio.run(read())


async def _until_committed(log: EventLog, group: str) -> None:
    async with admin_of(log.bootstrap) as admin:
        async with asyncio.timeout(SOON_S):
            while len(await admin.list_consumer_group_offsets(group)) < log.partitions:  # noqa: ASYNC110  Kafka tells nobody
                await asyncio.sleep(0.05)


def test_members_share_the_partitions_and_together_skip_nothing(log: EventLog) -> None:
    options: dict[str, Any] = {"group": f"{log.settings.topics.prefix}g", "start": BEGINNING}
    wanted = {f"e{number}" for number in range(400)}

    async def read() -> tuple[list[set[int]], set[str | None]]:
        seen: set[str | None] = set()
        partitions: list[set[int]] = [set(), set()]

        async def member(number: int) -> None:
            async with aclosing(subscribe(log.settings, log.bootstrap, **options)) as events:
                async for event, place in events:
                    seen.add(event.event_id)
                    partitions[number].add(place.partition)

        members = [asyncio.create_task(member(0))]
        number = 0
        async with asyncio.timeout(SOON_S):
            while number < 400:
                await log.write(numbered(number, 10))
                number += 10
                if partitions[0] and len(members) == 1:
                    members.append(asyncio.create_task(member(1)))
                # the last ones once both have a share
                while number == 390 and not partitions[1]:
                    await log.write(numbered(0, 10))
        await until(lambda: wanted <= seen, SOON_S)
        for task in members:
            task.cancel()
        await asyncio.gather(*members, return_exceptions=True)
        return partitions, seen

    partitions, seen = asyncio.run(read())
    assert len(partitions[1]) == 1
    assert wanted <= seen


def test_records_that_are_gone_are_told_and_the_rest_comes(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    async def read() -> set[str | None]:
        await log.write(numbered(0, 40))
        tp = TopicPartition(log.topic, 0)
        async with admin_of(log.bootstrap) as admin:
            await admin.delete_records({tp: RecordsToDelete(before_offset=5)})
        start = Offsets({0: 2, 1: 1_000_000})
        async with aclosing(subscribe(log.settings, log.bootstrap, start=start)) as events:
            found = await some(events, 1)
            assert found[0].place in (Place(log.topic, 0, 5), Place(log.topic, 1, 0))
            return ids(found + await some(events, 20))

    asyncio.run(read())
    lost = [one for one in caplog.records if one.getMessage().startswith("records are gone")]
    assert [(one.__dict__["offset"], one.__dict__["first"]) for one in lost] == [(2, 5)]


def test_what_is_no_event_is_told_and_passed_over(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    async def read() -> list[Placed]:
        async with log.writer() as writer:
            await (await writer.write_value("k", b"\xff no event"))
            await (await writer.write_value("k", encode(numbered(7, 1)[0])))
        return await next_of_each(log, start=BEGINNING)

    assert ids(asyncio.run(read())) == {"e7"}
    told = [one.getMessage() for one in caplog.records if one.name == "consumers.subscribe"]
    assert told == ["a record is no event"]


def test_without_topics_or_kafka_one_error_says_so(broker: str) -> None:
    log = EventLog(broker)
    with pytest.raises(ConfigError, match="mailstream topics create"):
        asyncio.run(next_of_each(log))
    log.bootstrap = "127.0.0.1:1"
    with pytest.raises(TransientError, match="does not answer"):
        asyncio.run(next_of_each(log))
