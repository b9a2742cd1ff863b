"""Closed panes for consumers: whatever dies while they are written, each event is in them once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata

from tests.kit import interrupted_worker, publishing_worker
from tests.kit.kafka_admin import admin_of
from tests.kit.kafka_read import read_topics
from tests.kit.old_events import write_old
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.published import Slot, Sums, added_up, recount
from tests.kit.stand import Stand, stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]

EVENTS = 3_000
NEVER = str(1 << 30)
KILLS = 3
PUBLISHED_S = 90.0
STEADY = [publishing_worker.__name__, "begun", NEVER]


def published(st: Stand) -> list[bytes]:
    """Return the values of ``mail.panes``."""
    found = asyncio.run(read_topics(st.bootstrap, [st.topic("panes")], st.partitions))
    for one in found:
        pane = json.loads(one.value)
        assert one.key is not None
        assert json.loads(one.key) == [pane["family"], pane["key"], pane["event_type"]]
    return [one.value for one in found]


def wait_until_published(st: Stand, number: int = 1) -> None:
    """Wait until the records add up to the recount of ``mail.events``."""
    st.wait_until_caught_up()
    # Late rows wait for minutes, but not at a new owner's.
    st.worker(number).kill()
    st.worker(number)
    wanted = recount(st.events())
    held: dict[Slot, Sums] = {}

    def equal() -> bool:
        held.clear()
        held.update(added_up(published(st)))
        return held == wanted

    try:
        wait_until(equal, "the panes are published", within_s=PUBLISHED_S, every_s=1.0)
    except TimeoutError as exc:
        wrong = [slot for slot in {*held, *wanted} if held.get(slot) != wanted.get(slot)]
        told = [f"{slot}: {held.get(slot)}, not {wanted.get(slot)}" for slot in wrong[:5]]
        raise AssertionError("\n".join([str(exc), f"{len(wrong)} differ", *told])) from exc


def test_deaths_around_publications_lose_and_double_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st:
        write_old(st, EVENTS, seed=1)
        for number, step in enumerate(interrupted_worker.STEPS, 1):
            st.worker(number, [publishing_worker.__name__, step, "3"])
        wait_until(lambda: not st.running(), "each dies at its step", within_s=120)
        first, second = 11, 12
        st.worker(first, STEADY)
        st.worker(second, STEADY)
        for turn in range(KILLS):
            # Late rows: an owner writes them at once, and again after minutes.
            write_old(st, EVENTS, seed=10 + turn)
            st.wait_until_ready()
            st.wait_until_caught_up()
            number = (first, second)[turn % 2]
            st.worker(number).kill()
            st.worker(number)
        st.worker(second).kill()
        wait_until_published(st, first)
        values = published(st)
        assert len(values) > 10 * publishing_worker.MOST_RECORDS
        assert {json.loads(value)["partial"] for value in values} == {False, True}


def test_another_configuration_publishes_nothing_again(kafka: OwnBroker, tmp_path: Path) -> None:
    with stand(kafka.bootstrap, tmp_path) as st:
        write_old(st, EVENTS, seed=1)
        st.worker(1)
        wait_until_published(st)
        before = len(published(st))
        st.worker(1).kill()
        write_old(st, EVENTS, seed=2)
        settings = json.loads(st.config.read_text())
        settings["pipeline"]["windows"] = ["5m", "1h"]
        settings["pipeline"]["families_off"] = ["domain"]
        st.config.write_text(json.dumps(settings))
        st.worker(1)
        wait_until_published(st)
        assert len(published(st)) > before


def test_panes_whose_deltas_were_deleted_are_told_to_be_partial(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st:
        write_old(st, EVENTS, seed=1)
        st.worker(1)
        st.wait_until_caught_up()
        write_old(st, EVENTS, seed=2)
        wait_until_published(st)
        st.worker(1).stop()
        before = Counter(published(st))
        wait_until(lambda: forgotten(st), "the group is left", within_s=PUBLISHED_S, every_s=1.0)
        st.worker(1)
        wait_until(
            lambda: bool(Counter(published(st)) - before),
            "what is left is published again",
            within_s=PUBLISHED_S,
            every_s=1.0,
        )
        again = Counter(published(st)) - before
        assert all(json.loads(value)["partial"] for value in again)


def forgotten(st: Stand) -> bool:
    """Forget, unless the group still waits for the worker that left."""
    with suppress(CommitFailedError):
        asyncio.run(forget(st))
        return True
    return False


async def forget(st: Stand) -> None:
    """Forget how far roll-ups came, and all deltas of each partition but the last record."""
    deltas = await read_topics(st.bootstrap, [st.topic("deltas")], st.partitions)
    last = {TopicPartition(one.topic, one.partition): one.offset for one in deltas}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=st.bootstrap, group_id=st.group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign(list(last))
        await consumer.commit(dict.fromkeys(last, OffsetAndMetadata(0, "")))
    finally:
        await consumer.stop()
    async with admin_of(st.bootstrap) as admin:
        await admin.delete_records({tp: RecordsToDelete(offset) for tp, offset in last.items()})
