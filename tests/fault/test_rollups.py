"""Roll-ups: workers die around them, and closed panes outlive the deltas they came from."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.kit.flow import flow
from tests.kit.kafka_admin import admin_of
from tests.kit.kafka_read import read_topics
from tests.kit.old_events import write_old
from tests.kit.oracle import MINUTE, Recount
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.raw_log import RawWriter, raw_record
from tests.kit.stand import Stand, now_ms, stand
from tests.kit.traffic import CLASSES, Shape, Varied
from tests.kit.view import ANY_VIEW, View, wait_until_equal

pytestmark = [pytest.mark.integration, pytest.mark.fault]

AGE = 20 * MINUTE
EVENTS = 10_000
KILLS = 5
ROLLED_S = 60.0


def write_backlog(st: Stand) -> None:
    """Write what came in within the last hour, as the raw topics hold it: by the time of its ingest."""

    async def write() -> None:
        end = now_ms()
        shape = Shape(users=500, ips=20)
        traffic = Varied(seed=6, now_ms=end, spread_ms=10 * MINUTE, shape=shape)
        zonemta, haraka = (RawWriter(st.bootstrap, topic, st.partitions) for topic in st.raw)
        async with zonemta, haraka:
            for ago in range(60, 0, -1):
                received = traffic.now_ms = end - ago * MINUTE
                for writer, make, source in (
                    (zonemta, traffic.zonemta, "zonemta"),
                    (haraka, traffic.haraka, "haraka"),
                ):
                    events = [make() for _ in range(EVENTS // 60)]
                    for event in events:
                        event.setdefault("event_id", f"{event['queue_id']}.{event['seq']}")
                    await writer.write(raw_record(event, source, received) for event in events)

    asyncio.run(write())


def frames(st: Stand) -> list[dict[str, str]]:
    """Return the headers of all roll-up frames, with their partition."""
    found = asyncio.run(read_topics(st.bootstrap, [st.topic("rollups")], st.partitions))
    return [
        {"partition": str(one.partition)} | {name: value.decode() for name, value in one.headers}
        for one in found
    ]


def all_rolled_up(st: Stand, newest_ms: int) -> bool:
    """Tell whether nothing of the deltas is needed any more."""
    deltas = asyncio.run(read_topics(st.bootstrap, [st.topic("deltas")], st.partitions))
    ends = {str(one.partition): one.offset + 1 for one in deltas}
    last = {frame["partition"]: frame for frame in frames(st)}
    return set(ends) <= set(last) and all(
        int(last[number]["deltas_end"]) >= end
        and min(json.loads(last[number]["closed_until"]).values()) > newest_ms
        for number, end in ends.items()
    )


def roll_all_up(st: Stand) -> None:
    """Have old events rolled up by a worker that is dead afterwards."""
    newest_ms = write_old(st, EVENTS)
    st.worker(1)
    st.wait_until_caught_up()
    st.worker(1).kill()  # its next late rows would wait for minutes
    st.worker(1)
    wait_until(
        lambda: all_rolled_up(st, newest_ms),
        "all panes are rolled up",
        within_s=ROLLED_S,
        every_s=1.0,
    )
    st.worker(1).kill()


async def delete(st: Stand, topic: str, *, but: int = 0) -> None:
    """Delete all records of a topic, as retention would in time, *but* the last one or none."""
    found = await read_topics(st.bootstrap, [st.topic(topic)], st.partitions)
    ends = {TopicPartition(one.topic, one.partition): one.offset + 1 - but for one in found}
    async with admin_of(st.bootstrap) as admin:
        await admin.delete_records({tp: RecordsToDelete(end) for tp, end in ends.items()})


def test_closed_panes_are_recovered_without_their_deltas(kafka: OwnBroker, tmp_path: Path) -> None:
    with stand(kafka.bootstrap, tmp_path, view=ANY_VIEW) as st:
        roll_all_up(st)
        asyncio.run(delete(st, "deltas"))
        st.worker(1)
        st.assert_exactly_once()
        view = View(st.config, st.folder)
        try:
            view.start_and_listen()
            view.wait_until_complete()
            wait_until_equal(view, Recount(st.posted(), CLASSES))
        finally:
            view.end()


def test_the_deltas_are_read_where_roll_ups_were_deleted(kafka: OwnBroker, tmp_path: Path) -> None:
    with stand(kafka.bootstrap, tmp_path, view=ANY_VIEW) as st:
        roll_all_up(st)
        # What is committed names the last frame, which is there.
        asyncio.run(delete(st, "rollups", but=1))
        view = View(st.config, st.folder)
        try:
            view.start_and_listen()
            view.wait_until_complete()
            wait_until_equal(view, Recount(st.posted(), CLASSES))
        finally:
            view.end()
        st.worker(1)
        st.assert_exactly_once()


def test_an_hours_backlog_is_read_by_fresh_workers(kafka: OwnBroker, tmp_path: Path) -> None:
    with stand(kafka.bootstrap, tmp_path, view=ANY_VIEW) as st:
        write_backlog(st)
        st.worker(1)
        st.worker(2)
        wait_until(
            lambda: bool(frames(st)), "something is rolled up", within_s=ROLLED_S, every_s=0.2
        )
        st.worker(1).kill()
        st.worker(1)
        st.wait_until_ready()
        recount = st.assert_exactly_once()
        for number in (1, 2):
            st.worker(number).kill()
        st.worker(3)
        st.assert_counted_once(recount)
        view = View(st.config, st.folder)
        try:
            view.start_and_listen()
            view.wait_until_complete()
            wait_until_equal(view, recount)
        finally:
            view.end()


def test_kills_and_rebalances_around_roll_ups_lose_and_double_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=7) as events:
        st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        wait_until(
            lambda: bool(frames(st)), "something is rolled up", within_s=ROLLED_S, every_s=0.2
        )
        for turn in range(KILLS):
            # Late rows flow all the time: an owner writes them at once, and again after minutes.
            events.let_pass(2.0)
            number = 1 + turn % 2
            st.worker(number).kill()
            st.worker(number)
            st.wait_until_ready()
        events.stop()
        st.assert_exactly_once()
        written = frames(st)
        assert len({frame["epoch"] for frame in written}) <= st.partitions
        assert len({frame["token"] for frame in written}) > st.partitions
