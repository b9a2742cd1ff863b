"""What is posted is counted: once, under the right key, in the right windows."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.oracle import HOUR, MINUTE, SECOND, Fact, Posted, Recount
from tests.kit.raw_log import RawWriter, raw_record
from tests.kit.scrape import named_keys
from tests.kit.stand import Stand, assert_each_once, now_ms, stand
from tests.kit.traffic import CLASSES, Event, Varied, with_repeats

pytestmark = pytest.mark.integration

OUTBOUND, INBOUND = 162_000, 18_000
"""Distinct events; one in ten of those posted is a repeat."""
BATCH = 500
SMALL_TOP = 40


def test_two_hundred_thousand_posted_events_are_counted_exactly(
    broker: str, tmp_path: Path
) -> None:
    with stand(broker, tmp_path) as st:
        st.worker(1)
        st.worker(2)
        posted = post_all(st)
        assert sum(map(len, posted.values())) == 200_000
        raw = st.posted()
        assert_raw_holds_what_was_posted(raw, posted)
        recount = Recount(raw, CLASSES)
        assert len(recount.facts) == OUTBOUND + INBOUND
        st.wait_until_caught_up()
        events = st.events()
        assert_each_once(events, recount, identity)
        assert_attributions(events, recount)
        st.assert_counted_once(recount)
        assert_newest_times(st, recount)


def test_few_named_keys_and_other_are_always_the_whole(broker: str, tmp_path: Path) -> None:
    with stand(broker, tmp_path, pipeline={"top_keys": SMALL_TOP}) as st:
        write_some(st, 20_000)
        st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        recount = st.assert_exactly_once()
        scrape = st.scrape()
        while scrape is None:
            scrape = st.scrape()
        named = named_keys(scrape.page.windowed())
        expected = named_keys(recount.at(scrape.at_ms))
        for metric, keys in expected.items():
            assert 0 < len(named[metric]) <= min(len(keys), 2 * SMALL_TOP), metric
        assert len(named["mail_user_events"]) >= SMALL_TOP
        assert scrape.page.total("mail_user_events", user="_other", window="1h") > 0


def post_all(st: Stand) -> dict[str, list[Event]]:
    """Post events of both sources through HTTP; return them by source, repeats included."""
    traffic = Varied(seed=1, now_ms=now_ms(), spread_ms=54 * MINUTE, ahead_ms=4 * MINUTE)
    outbound = [traffic.zonemta() for _ in range(OUTBOUND)]
    inbound = [traffic.haraka() for _ in range(INBOUND)]
    posted = {
        "zonemta": with_repeats(outbound, OUTBOUND // 9, seed=2),
        "haraka": with_repeats(inbound, INBOUND // 9, seed=2),
    }
    address = st.ingest().address()
    with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        for source, batch in batches(posted):
            answer = client.post(
                "/api/v1/email-events/batch", json={"events": batch}, headers={"X-Source": source}
            )
            assert (answer.status_code, answer.json()["rejected"]) == (202, []), answer.text
            assert answer.json()["accepted"] == len(batch)
    return posted


def batches(posted: Mapping[str, Sequence[Event]]) -> list[tuple[str, Sequence[Event]]]:
    """Return the batches of all sources in a mixed order that keeps each source's own."""
    cut = {
        source: [events[at : at + BATCH] for at in range(0, len(events), BATCH)]
        for source, events in posted.items()
    }
    turns = [source for source, parts in cut.items() for _ in parts]
    random.Random(3).shuffle(turns)
    left = {source: iter(parts) for source, parts in cut.items()}
    return [(source, next(left[source])) for source in turns]


def identity(event: Mapping[str, Any]) -> object:
    return event["queue_id"], event["seq"]


def assert_raw_holds_what_was_posted(
    raw: Sequence[Posted], posted: Mapping[str, Sequence[Event]]
) -> None:
    found = Counter((one.source, canonical(one.event)) for one in raw)
    assert found == Counter(
        (source, canonical(event)) for source, events in posted.items() for event in events
    )


def canonical(event: Mapping[str, Any]) -> str:
    return json.dumps(event, sort_keys=True)


def assert_attributions(events: Sequence[Mapping[str, Any]], recount: Recount) -> None:
    """Hold every event of ``mail.events`` against what the recount attributes it to."""
    facts = {
        (one.source, identity(one.event)): fact
        for one, fact in zip(recount.posted, recount.facts, strict=True)
    }
    for event in events:
        fact = facts[event["source"], identity(event)]
        assert attributed(event) == expected_attribution(fact), event


def attributed(event: Mapping[str, Any]) -> dict[str, Any]:
    got = {name: event.get(name) for name in ("event_type", "direction", "user", "provider")}
    got |= {name: event.get(name) for name in ("from_domain", "sending_ip", "client_ip")}
    got |= {name: event.get(name, False) for name in ("late", "is_dsn")}
    return got


def expected_attribution(fact: Fact) -> dict[str, Any]:
    return {
        "event_type": fact.event_type,
        "direction": fact.direction,
        "user": fact.user,
        "provider": fact.provider,
        "from_domain": fact.from_domain,
        "sending_ip": fact.sending_ip,
        "client_ip": fact.client_ip,
        "late": fact.late,
        "is_dsn": fact.is_dsn,
    }


def assert_newest_times(st: Stand, recount: Recount) -> None:
    scrape = st.scrape()
    while scrape is None:
        scrape = st.scrape()
    shown = {key: round(at * SECOND) for key, at in scrape.page.newest().items()}
    assert shown == recount.newest()
    assert max(shown.values()) < scrape.at_ms + HOUR


def write_some(st: Stand, count: int) -> None:
    """Write raw records of both sources."""

    async def write() -> None:
        now = now_ms()
        traffic = Varied(seed=5, now_ms=now, spread_ms=50 * MINUTE, ahead_ms=4 * MINUTE)
        for topic, source, make in zip(
            st.raw, ("zonemta", "haraka"), (traffic.zonemta, traffic.haraka), strict=True
        ):
            events = [make() for _ in range(count // 2)]
            for event in events:
                event.setdefault("event_id", f"{event['queue_id']}.{event['seq']}")
            async with RawWriter(st.bootstrap, topic, st.partitions) as writer:
                await writer.write(raw_record(event, source, now) for event in events)

    asyncio.run(write())
