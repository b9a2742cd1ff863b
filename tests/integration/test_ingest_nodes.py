"""Heartbeats and observations as ingest takes them, and the numbers of senders that it follows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailstream.ports import free_port
from pipeline.core.event import partition_of
from tests.kit.kafka_read import Read, read_topics
from tests.kit.processes import Ingest, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand, now_ms, stand

pytestmark = pytest.mark.integration

NODES, METRICS = "/api/v1/nodes", "/api/v1/metrics"
ONE, BATCH = "/api/v1/email-events", "/api/v1/email-events/batch"
KEYS = [
    {"name": "mta1", "key": "mta-key"},
    {"name": "agent1", "key": "agent-key", "sources": ["nodes"]},
]
HEARTBEAT: dict[str, Any] = {
    "node": "mta1",
    "role": "zonemta",
    "version": "1.0.0",
    "boot_id": "boot-1",
    "last_seq": 10,
    "buffered": 0,
    "dropped_total": 0,
}
OBSERVATION: dict[str, Any] = {
    "node": "mta1",
    "what": "zonemta",
    "at": "2026-01-02T04:04:05.678+01:00",
    "values": {'mail_zonemta_queue_messages{zone="default"}': 7, "load": 0.5},
}
EVENT: dict[str, Any] = {
    "timestamp": "2026-01-02T03:04:05.678Z",
    "event_type": "delivered",
    "queue_id": "q1",
}


@pytest.fixture(scope="module")
def keyed(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    limits = {"max_body_bytes": 400_000, "max_batch_events": 100}
    ingest = {"listen": "127.0.0.1:0", "api_keys": KEYS, **limits}
    with stand(broker, tmp_path_factory.mktemp("keyed"), ingest=ingest) as st:
        yield st


@contextmanager
def client(st: Stand, key: str = "mta-key", **headers: str) -> Iterator[httpx.Client]:
    sent = {"X-API-Key": key, **{name.replace("_", "-"): text for name, text in headers.items()}}
    with httpx.Client(base_url=f"http://{st.ingest().address()}", headers=sent, timeout=30) as http:
        yield http


def records(st: Stand) -> list[Read]:
    return asyncio.run(read_topics(st.bootstrap, [st.topic("raw.node")], st.partitions))


def test_a_heartbeat_and_observations_are_on_the_topic_of_nodes(
    broker: str, tmp_path: Path
) -> None:
    with stand(broker, tmp_path) as st, client(st) as http:
        before = now_ms()
        accepted = {"accepted": 1, "rejected": []}
        answer = http.post(NODES, json=HEARTBEAT | {"more": 1})
        assert (answer.status_code, answer.json()) == (202, accepted)
        posted = {"observations": [OBSERVATION]}
        answer = http.post(METRICS, json=posted, headers={"X-Source": "nodes"})
        assert (answer.status_code, answer.json()) == (202, accepted)
        found = {one.header("feed"): one for one in records(st)}
        assert set(found) == {"heartbeat", "observation"}
        for one in found.values():
            assert (one.key, one.partition) == (b"mta1", partition_of(b"mta1", 4))
            assert [name for name, _ in one.headers] == [
                "id",
                "source",
                "feed",
                "origin",
                "received",
            ]
            assert before <= int(one.header("received")) <= now_ms()
        assert found["heartbeat"].header("source") == "zonemta"
        assert found["observation"].header("source") == "nodes"
        assert json.loads(found["heartbeat"].value) == HEARTBEAT
        assert json.loads(found["observation"].value) == OBSERVATION | {
            "at": "2026-01-02T03:04:05.678Z"
        }


def test_unusable_heartbeats_are_refused_with_the_reason(keyed: Stand) -> None:
    bodies: list[tuple[Any, str]] = [
        (b"{", "malformed"),
        (b"\xff", "malformed"),
        (b"[" * 100_000, "malformed"),
        (json.dumps(HEARTBEAT).replace("{", '{"node": "twice", '), "malformed"),
        ({}, "missing_field"),
        ([], "invalid_field"),
        (HEARTBEAT | {"node": ""}, "invalid_field"),
        (HEARTBEAT | {"node": "a@example.com"}, "invalid_field"),
        (HEARTBEAT | {"role": "_other"}, "reserved_value"),
        (HEARTBEAT | {"boot_id": "b" * 65}, "invalid_field"),
        (HEARTBEAT | {"buffered": -1}, "invalid_field"),
        (HEARTBEAT | {"last_seq": 1.5}, "invalid_field"),
        (HEARTBEAT | {"last_seq": 1 << 60}, "invalid_field"),
    ]
    with client(keyed, Content_Type="application/json") as http:
        for body, error in bodies:
            content = body if isinstance(body, bytes | str) else json.dumps(body)
            answer = http.post(NODES, content=content)
            assert (answer.status_code, answer.json()["error"]) == (400, error), body


def test_good_observations_of_a_batch_are_taken_and_bad_ones_named(keyed: Stand) -> None:
    bad: list[Any] = [
        5,
        OBSERVATION | {"at": "yesterday"},
        OBSERVATION | {"values": {}},
        OBSERVATION | {"values": {"a": "text"}},
        OBSERVATION | {"values": {'a{user="joe@example.com"}': 1}},
        OBSERVATION | {"values": {"a b": 1}},
        OBSERVATION | {"values": {f"n{number}": 1 for number in range(5001)}},
        OBSERVATION | {"what": "x" * 65},
    ]
    with client(keyed) as http:
        answer = http.post(METRICS, json={"observations": [*bad, OBSERVATION]})
        assert answer.status_code == 202
        assert answer.json()["accepted"] == 1
        assert [one["index"] for one in answer.json()["rejected"]] == list(range(len(bad)))
        assert "joe" not in answer.text
        huge = json.dumps({"observations": [OBSERVATION | {"values": {"n": 1}}]})
        huge = huge.replace('"n": 1', '"n": 1e999')
        answer = http.post(METRICS, content=huge, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["accepted"]) == (202, 0)
        assert http.post(METRICS, json=[OBSERVATION]).status_code == 400
        assert http.post(METRICS, json={"observations": [OBSERVATION] * 101}).status_code == 413
        commas = {"observations": [[0] * 110_000]}
        assert http.post(METRICS, json=commas).status_code == 413
        assert http.post(METRICS, content=b" " * 400_001).status_code == 415
        typed = {"Content-Type": "application/json"}
        assert http.post(METRICS, content=b" " * 400_001, headers=typed).status_code == 413


def test_keys_decide_who_may_post_heartbeats(keyed: Stand) -> None:
    expected = [
        ("wrong", {}, NODES, HEARTBEAT, 401),
        ("agent-key", {}, NODES, HEARTBEAT, 403),
        ("agent-key", {"X-Source": "nodes"}, NODES, HEARTBEAT, 202),
        ("agent-key", {"X-Source": "nodes"}, ONE, EVENT, 400),
        ("mta-key", {"X-Source": "nodes"}, ONE, EVENT, 400),
        ("mta-key", {"X-Source": "haraka"}, NODES, HEARTBEAT, 202),
        ("mta-key", {"X-Source": "other"}, NODES, HEARTBEAT, 400),
    ]
    for key, headers, path, body, status in expected:
        with client(keyed, key) as http:
            answer = http.post(path, json=body, headers=headers)
            assert answer.status_code == status, (key, headers, path, answer.text)


def test_numbers_that_are_lost_on_the_way_show(broker: str, tmp_path: Path) -> None:
    ingest = {"listen": "127.0.0.1:0", "api_keys": KEYS}
    told = {"source": "zonemta", "origin": "mta1"}
    with stand(broker, tmp_path, ingest=ingest) as st, client(st) as http:

        def post(first: int, last: int, boot: str = "boot-1") -> None:
            batch = {"events": [EVENT | {"seq": str(number)} for number in range(first, last + 1)]}
            headers = {"X-Boot-Id": boot, "X-Numbers": f"{first}-{last}"}
            assert http.post(BATCH, json=batch, headers=headers).status_code == 202

        def beat(**changes: Any) -> Page:
            assert http.post(NODES, json=HEARTBEAT | changes).status_code == 202
            return Page([http.get("/metrics").text])

        post(1, 4)
        post(1, 4)
        post(9, 10)
        single = {"X-Boot-Id": "boot-1", "X-Numbers": "8-8"}
        assert http.post(ONE, json=EVENT, headers=single).status_code == 202
        page = beat(last_seq=14, buffered=4, dropped_total=1)
        assert page.values("mailstream_sender_missing_events_total", **told) == [2]
        assert page.values("mailstream_sender_buffered_events", **told) == [4]
        assert page.values("mailstream_sender_dropped_events_total", **told) == [1]
        (heard,) = page.values("mailstream_last_heartbeat_timestamp_seconds", **told)
        assert abs(heard - now_ms() / 1000) < 60
        post(11, 14)
        post(1, 3, "boot-2")
        page = beat(boot_id="boot-2", last_seq=3)
        page = beat(last_seq=14, dropped_total=1)
        assert page.values("mailstream_sender_missing_events_total", **told) == [2]
        assert page.values("mailstream_sender_buffered_events", **told) == [0]
        assert page.total("mailstream_ingest_heartbeats_total", **told) == 3


def test_numbers_of_another_form_or_count_are_refused(keyed: Stand) -> None:
    bad = [
        {"X-Boot-Id": "b"},
        {"X-Numbers": "1-1"},
        {"X-Boot-Id": "b", "X-Numbers": "0-0"},
        {"X-Boot-Id": "b", "X-Numbers": "1-2"},
        {"X-Boot-Id": "b" * 65, "X-Numbers": "1-1"},
    ]
    with client(keyed) as http:
        for headers in bad:
            for path, body in (
                (ONE, EVENT),
                (BATCH, {"events": [EVENT]}),
                (METRICS, {"observations": [OBSERVATION]}),
            ):
                answer = http.post(path, json=body, headers=headers)
                assert answer.status_code == 400, (headers, path)
                assert answer.json()["error"] in {"missing_field", "invalid_field"}
        good = {"X-Boot-Id": "b", "X-Numbers": "1-1"}
        assert http.post(BATCH, json={"events": [{}]}, headers=good).status_code == 202


def test_heartbeats_are_refused_while_kafka_is_away(tmp_path: Path) -> None:
    st = Stand(f"127.0.0.1:{free_port('127.0.0.1')}", tmp_path)
    ingest = Ingest(st.config, st.folder)
    ingest.start()
    try:
        wait_until(ingest.address, "it is announced", within_s=30)
        for path, body in ((NODES, HEARTBEAT), (METRICS, {"observations": [OBSERVATION]})):
            refused = httpx.post(f"http://{ingest.address()}{path}", json=body)
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
    finally:
        ingest.end()
