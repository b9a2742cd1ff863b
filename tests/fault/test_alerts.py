"""Anomalies on ``mail.alerts``: each is told once, whoever dies and wherever its partition moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.event import partition_of
from pipeline.core.timestamp import rfc3339
from tests.kit.kafka_read import read_topics
from tests.kit.oracle import HOUR, MINUTE
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.raw_log import RawWriter, raw_record
from tests.kit.scrape import Page
from tests.kit.stand import Stand, now_ms, stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]

ANN, BOB = "ann@example.com", "bob@example.org"
ADDRESS = "203.0.113.9"
PANE = 5 * MINUTE
PANES = 13
TOLD_S = 180.0
"""A partition's first roll-up comes when its log was silent for a minute, and what is told with it."""
PARTITIONS = 2

Event = dict[str, Any]


def event(name: str, user: str, at_ms: int, event_type: str, **more: object) -> Event:
    """Return an event of the first partition: what is old must arrive at once, not in part late."""
    while partition_of(name.encode(), PARTITIONS):
        name += "x"
    return {
        "event_id": name,
        "queue_id": name,
        "event_type": event_type,
        "timestamp": rfc3339(at_ms),
        "from_user": user,
        "client_ip": "198.51.100.1",
        "auth_method": "PLAIN",
        **more,
    }


def ordinary(user: str, until_ms: int) -> Iterator[Event]:
    """Yield a message in each of some panes that are over."""
    for number in range(PANES):
        at_ms = until_ms - number * PANE
        yield event(f"o{number}{user}", user, at_ms, "sent", recipients=1)
        yield event(f"p{number}{user}", user, at_ms, "delivered", to_domain="friend.example")


def stolen(user: str, at_ms: int) -> Iterator[Event]:
    """Yield what a thief sends."""
    for number in range(150):
        name = f"s{number}{user}"
        thief: Event = {"client_ip": f"192.0.2.{number % 3}", "auth_method": "LOGIN"}
        domain = "often.example" if number % 2 else f"victim{number}.example"
        yield event(f"{name}a", user, at_ms, "sent", recipients=2, **thief)
        yield event(f"{name}b", user, at_ms, "delivered", to_domain=domain, **thief)


def refused(at_ms: int) -> Iterator[Event]:
    """Yield what a provider says to an address of ours."""
    reply = f"550 5.7.1 [{ADDRESS}] Our system has detected that this message is blocked using a block list"
    for number in range(40):
        yield event(
            f"r{number}",
            f"user{number}@example.net",
            at_ms,
            "bounced",
            to_domain="gmail.com",
            sending_ip=ADDRESS,
            response_code=550,
            response_message=reply,
        )


def write(st: Stand, events: Sequence[Event]) -> None:
    async def write_all() -> None:
        async with RawWriter(st.bootstrap, st.raw[0], st.partitions) as writer:
            await writer.write(raw_record(one, "zonemta", now_ms()) for one in events)

    asyncio.run(write_all())


def alerts(st: Stand) -> list[tuple[int, bytes | None, dict[str, Any]]]:
    found = asyncio.run(read_topics(st.bootstrap, [st.topic("alerts")], st.partitions))
    return [(one.partition, one.key, json.loads(one.value)) for one in found]


def told(st: Stand) -> list[tuple[str, ...]]:
    return sorted((one["kind"], *one["key"]) for _, _, one in alerts(st))


def learned_until(st: Stand, partition: int) -> int:
    """Return up to when the panes of a partition are known to the detectors."""
    found = asyncio.run(read_topics(st.bootstrap, [st.topic("rollups")], st.partitions))
    return max(
        (
            json.loads(one.header("closed_until"))[str(PANE)]
            for one in found
            if one.partition == partition and one.header("tier") == "watch"
        ),
        default=0,
    )


def looked_at(st: Stand, user: str) -> bool:
    texts = [worker.metrics() for worker in st.running()]
    page = Page(text for text in texts if text is not None)
    return any(
        one.labels["user"] == user and one.value >= 1
        for one in page.samples
        if one.name == "mail_user_anomaly_score"
    )


def test_an_alert_is_told_once_through_kills_and_moves(kafka: OwnBroker, tmp_path: Path) -> None:
    with stand(kafka.bootstrap, tmp_path, partitions=PARTITIONS) as st:
        st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        past = now_ms() - 8 * MINUTE
        write(st, [*ordinary(ANN, past), *ordinary(BOB, past)])
        for user in ANN, BOB:
            place = partition_of(user.encode(), PARTITIONS)
            wait_until(
                lambda place=place: learned_until(st, place) > past,  # type: ignore[misc]  # mypy has no way to say it
                "what is ordinary was learned",
                within_s=TOLD_S,
                every_s=0.5,
            )
        write(st, [*stolen(ANN, now_ms()), *refused(now_ms())])
        expected = [("hijacked_account", ANN), ("ip_blocked", ADDRESS, "google")]
        wait_until(lambda: told(st) == expected, "both are told", within_s=TOLD_S, every_s=0.5)
        assert_evidence(st, past)
        for number in 1, 2:
            st.worker(number).kill()
            st.worker(number)
        st.wait_until_ready()
        wait_until(lambda: looked_at(st, ANN), "the account is looked at again", within_s=TOLD_S)
        write(st, list(stolen(BOB, now_ms())))
        expected.insert(1, ("hijacked_account", BOB))
        wait_until(lambda: told(st) == expected, "another is told", within_s=TOLD_S, every_s=0.5)
        st.worker(2).kill()
        st.wait_until_ready()
        wait_until(
            lambda: looked_at(st, ANN) and looked_at(st, BOB),
            "both accounts are looked at by the worker that is left",
            within_s=TOLD_S,
        )
        assert told(st) == expected


def assert_evidence(st: Stand, past: int) -> None:
    (partition, key, alert) = next(one for one in alerts(st) if one[2]["key"] == [ANN])
    assert partition == partition_of(ANN.encode(), PARTITIONS)
    assert json.loads(key or b"") == ["hijacked_account", [ANN], alert["since"]]
    assert "until" not in alert
    evidence = alert["evidence"]
    assert evidence["figures"]["recipients"] >= 100
    assert evidence["limits"]["basis"] == "own"
    assert evidence["destinations"][0] == "often.example"
    assert set(evidence["client_ips"]) >= {"192.0.2.0", "192.0.2.1", "192.0.2.2"}
    assert evidence["auth_method"] == "LOGIN"
    first = past - (PANES - 1) * PANE
    assert evidence["first_seen"] == first - first % PANE
    (_, _, block) = next(one for one in alerts(st) if one[2]["kind"] == "ip_blocked")
    assert block["evidence"]["classes"] == {"ip_blocked": 40}
    assert alert["since"] > now_ms() - HOUR
