"""A record on which the pure part raises costs itself alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.kit import sensitive_worker
from tests.kit.kafka_read import read_topics
from tests.kit.own_broker import OwnBroker
from tests.kit.raw_log import RawWriter, raw_record
from tests.kit.stand import Stand, now_ms, stand
from tests.kit.traffic import Event, Varied

pytestmark = [pytest.mark.integration, pytest.mark.fault]

EVENTS = 8000
POISONED = (0, 1, 1234, 5000, EVENTS - 1)


def test_poison_records_become_dead_letters_and_all_others_are_counted(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st:
        poisoned = asyncio.run(write(st))
        worker = st.worker(1, [sensitive_worker.__name__])
        st.wait_until_caught_up()
        dead = asyncio.run(read_topics(st.bootstrap, [st.topic("dead")], st.partitions))
        assert Counter(one.key for one in dead) == poisoned
        assert all("bug" in one.header("error") for one in dead)
        assert worker.ready()
        events = st.events()
        assert len({event["event_id"] for event in events}) == len(events)
        assert len(events) == EVENTS - len(POISONED)
        st.wait_until_equal(st.recount(without=lambda event: event["mta_node"] == "poison"))


async def write(st: Stand) -> Counter[bytes | None]:
    """Write events, some of them poisoned; return the keys of these."""
    now = now_ms()
    traffic = Varied(seed=8, now_ms=now)
    events: list[Event] = [traffic.zonemta() for _ in range(EVENTS)]
    for place, event in enumerate(events):
        event.setdefault("event_id", str(place))
        if place in POISONED:
            event["mta_node"] = "poison"
    records = [raw_record(event, "zonemta", now) for event in events]
    async with RawWriter(st.bootstrap, st.raw[0], st.partitions) as writer:
        await writer.write(records)
    return Counter(records[place].key for place in POISONED)
