"""Outcomes of probes, and mail of their accounts, through real Kafka and a worker that is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from mailstream.simulation.probes import ProbePlan, probes
from tests.kit.oracle import MINUTE, SECOND, Recount
from tests.kit.raw_log import RawRecord, RawWriter, probe_record, raw_record
from tests.kit.stand import Scrape, Stand, now_ms, stand
from tests.kit.traffic import CLASSES, Shape, Varied

pytestmark = pytest.mark.integration

ACCOUNTS = ["user1@dom1.example.org", "login2@dom2.example.org"]
MAIL = 2000
SETTINGS = {
    "raw": ("raw.zonemta", "raw.probe"),
    "pipeline": {"dimensions": {"path": ["zone", "direction"]}},
    "probe": {"accounts": ACCOUNTS},
}


def test_probes_are_counted_exactly_and_are_no_customers_whatever_is_killed(
    broker: str, tmp_path: Path
) -> None:
    now = now_ms()
    outcomes, mail = rounds(now), messages(now)
    with stand(broker, tmp_path, **SETTINGS) as st:
        st.worker(1)
        write(st, "raw.probe", outcomes[: len(outcomes) // 2])
        write(st, "raw.zonemta", mail[: MAIL // 2])
        st.wait_until_ready()
        st.worker(1).kill()
        write(st, "raw.probe", outcomes)  # the first half comes twice
        write(st, "raw.zonemta", mail)
        st.worker(1)
        st.wait_until_ready()
        st.wait_until_caught_up()
        recount = Recount(st.posted(), CLASSES, ACCOUNTS)
        assert any(fact.is_probe for fact in recount.facts)
        st.assert_counted_once(recount)
        assert_events_once(st, recount)
        scrape = page(st)
        assert newest_success(scrape) == recount.newest_success()
        told = [
            one.value
            for one in scrape.page.samples
            if one.name == "mail_node_events"
            and one.labels["window"] == "1h"
            and one.labels["zone"] != "none"
        ]
        assert scrape.page.total("mail_path_events", window="1h") == sum(told) > 0


def rounds(now: int) -> list[RawRecord]:
    """Return the outcomes of the last 40 minutes, as two probes write them."""
    plan = ProbePlan(7, now - 40 * MINUTE, 40 * MINUTE)
    return [probe_record(one.record, one.origin, now) for one in probes(plan)]


def messages(now: int) -> list[RawRecord]:
    """Return outbound mail, some of it of the probes' accounts."""
    made = Varied(seed=7, now_ms=now, spread_ms=40 * MINUTE, shape=Shape(users=30, ips=5))
    events = [made.zonemta() for _ in range(MAIL)]
    for event in events:
        event.setdefault("event_id", f"{event['queue_id']}.{event['seq']}")
    return [raw_record(event, "zonemta", now) for event in events]


def write(st: Stand, topic: str, records: list[RawRecord]) -> None:
    async def run() -> None:
        async with RawWriter(st.bootstrap, st.topic(topic), st.partitions) as writer:
            await writer.write(records)

    asyncio.run(run())


def assert_events_once(st: Stand, recount: Recount) -> None:
    """Assert that each outcome is on ``mail.events`` once, and mail of probes is tagged."""
    written = st.events()
    found = Counter(
        (event["origin"], event["route"], event["outcome"], event["timestamp"])
        for event in written
        if event["source"] == "probe"
    )
    assert found == Counter(
        (one.origin, one.event["route"], one.event["outcome"], one.event["timestamp"])
        for one in recount.posted
        if one.source == "probe"
    )
    tagged = sum(event.get("is_probe", False) for event in written)
    assert tagged == sum(fact.is_probe for fact in recount.facts)


def page(st: Stand) -> Scrape:
    while True:
        scrape = st.scrape()
        if scrape is not None:
            return scrape


def newest_success(scrape: Scrape) -> dict[tuple[str, str], int]:
    return {
        (one.labels["route"], one.labels["origin"]): round(one.value * SECOND)
        for one in scrape.page.samples
        if one.name == "mail_route_last_success_timestamp_seconds"
    }
