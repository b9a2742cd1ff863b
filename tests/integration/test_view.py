"""The view as a process: what it answers equals the recount, through restarts, kills and outages."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from consumers.view.http import PAGE
from mailstream.ports import free_port
from pipeline.core.timestamp import rfc3339
from tests.kit.flow import flow
from tests.kit.oracle import HOUR, MINUTE, Recount
from tests.kit.processes import mailstream, wait_until
from tests.kit.stand import Stand, now_ms
from tests.kit.traffic import CLASSES
from tests.kit.view import ANY_VIEW, KEY, View, assert_described, viewed, wait_until_equal

pytestmark = pytest.mark.integration

SHOWN_S = 60.0
BATCH = "/api/v1/email-events/batch"


def test_all_partitions_are_folded_and_a_kill_changes_no_number(
    broker: str, tmp_path: Path
) -> None:
    with viewed(broker, tmp_path) as (st, view):
        st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        with flow(st, rate=1000, seed=7) as events:
            events.let_pass(3)
            view.kill()
            events.let_pass(1)
            view.start_and_listen()
            events.let_pass(2)
        st.wait_until_caught_up()
        recount = Recount(st.posted(), CLASSES)
        assert len(recount.facts) > 3000
        view.wait_until_complete()
        wait_until_equal(view, recount)
        assert_series_add_up(view, recount)
        assert view.stop() == 0


def assert_series_add_up(view: View, recount: Recount) -> None:
    busiest = view.ask("top", dimension="user", window="1h", n=1)["top"][0]
    answer = view.ask("series", dimension="user", key=busiest["key"]["user"])
    assert {name: sum(column) for name, column in answer["events"].items()} == busiest["events"]
    assert len(answer["times"]) == HOUR // MINUTE
    whole = view.ask("series", dimension="user")
    total = sum(1 for fact in recount.facts if fact.user is not None and not fact.late)
    assert 0 < sum(map(sum, whole["events"].values())) <= total
    later = view.ask("series", dimension="user", **{"from": answer["times"][50]})
    assert later["times"] == whole["times"][50:]


@pytest.fixture(scope="module")
def shown(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stand, View]]:
    """Yield a view of a worker that has counted a few events of one sender."""
    with viewed(broker, tmp_path_factory.mktemp("view")) as (st, view):
        st.worker()
        ingest = f"http://{st.ingest().address()}"
        event = {
            "timestamp": rfc3339(now_ms()),
            "from_user": "ann@example.com",
            "to_domain": "example.net",
            "sending_ip": "203.0.113.7",
            "mta_node": "mta1",
            "mx_host": "mx.example.net",
        }
        replies: list[dict[str, Any]] = [
            {"event_type": "delivered", "delivery_time_ms": 900},
            {
                "event_type": "deferred",
                "response_message": "450 4.2.1 <joe@example.net> is over quota",
            },
            {"event_type": "bounced", "response_message": "550 5.1.1 <joe@example.net> unknown"},
        ]
        events = [event | one | {"queue_id": f"q{n}"} for n, one in enumerate(replies)]
        beat = {
            "node": "mta1",
            "role": "zonemta",
            "version": "1.0.0",
            "boot_id": "b1",
            "last_seq": 3,
            "buffered": 0,
            "dropped_total": 0,
        }
        assert httpx.post(f"{ingest}{BATCH}", json={"events": events}).status_code == 202
        assert httpx.post(f"{ingest}/api/v1/nodes", json=beat).status_code == 202
        wait_until(
            lambda: (
                len(view.ask("metrics")["windows"]["1h"].get("user", ())) == len(events)
                and view.ask("nodes")["nodes"]
                and sum(one["events"] for one in view.ask("nodes")["sources"]) == len(events)
            ),
            "the events show",
            within_s=SHOWN_S,
        )
        yield st, view


def test_a_top_key_has_its_last_reply_redacted_and_its_moments(shown: tuple[Stand, View]) -> None:
    _, view = shown
    answer = view.ask("top", dimension="user", window="5m", event_type="bounced", n=20)
    assert (answer["keys"], answer["total"], answer["labels"]) == (1, 1, ["user"])
    (row,) = answer["top"]
    assert (row["key"], row["count"]) == ({"user": "ann@example.com"}, 1)
    assert row["events"] == {"delivered": 1, "deferred": 1, "bounced": 1}
    assert "joe" not in row["last_reply"]
    assert "@example.net" in row["last_reply"]
    assert abs(row["last_seen"] - now_ms() / 1000) < 600
    assert row["first_seen"] <= row["last_seen"]


def test_a_destination_has_classes_times_and_what_waits(shown: tuple[Stand, View]) -> None:
    _, view = shown
    answer = view.ask("destinations/example.net")
    assert answer["events"]["1h"] == {"delivered": 1, "deferred": 1, "bounced": 1}
    assert sum(answer["classes"]["1h"].values()) == 2
    assert (answer["waiting"], answer["delivery_ms"]) == (1, {"p50": 900, "p95": 900})
    assert answer["hosts"] == ["mx.example.net"]


def test_sums_nodes_and_sources_are_told(shown: tuple[Stand, View]) -> None:
    _, view = shown
    answer = view.ask("metrics")
    assert answer["windows"]["1h"]["node"] == {"delivered": 1, "deferred": 1, "bounced": 1}
    assert answer["dimensions"]["failure"]["by"] == ["provider", "bounce_class"]
    told = view.ask("nodes")
    (node,) = told["nodes"]
    assert (node["node"], node["alive"]) == ("mta1", True)
    (source,) = told["sources"]
    assert (source["source"], source["origin"], source["events"]) == ("zonemta", "default", 3)
    grouped = view.ask("top", dimension="failure", window="1h", by="provider")
    assert [row["count"] for row in grouped["top"]] == [2]


def test_live_events_come_with_numbers_and_go_on_where_a_reader_stood(
    shown: tuple[Stand, View],
) -> None:
    _, view = shown
    url = f"{view.url}/api/v1/events"
    first, last = one_message(url)
    assert [event["number"] for event in first["events"]] == [1, 2, 3]
    assert all("joe" not in json.dumps(event) for event in first["events"])
    again, _ = one_message(url, {"Last-Event-ID": last})
    assert again["events"] == []
    elsewhere, _ = one_message(url, {"Last-Event-ID": "other-99"})
    assert len(elsewhere["events"]) == 3
    bounces, _ = one_message(f"{url}?event_type=bounced")
    assert [event["event_type"] for event in bounces["events"]] == ["bounced"]


def one_message(url: str, headers: dict[str, str] | None = None) -> tuple[dict[str, Any], str]:
    """Return data and id of the first message of a stream."""
    found: dict[str, str] = {}
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            name, _, text = line.partition(": ")
            if not line:
                break
            found[name] = text
    assert found["event"] == "events"
    return json.loads(found["data"]), found["id"]


def test_errors_are_json_with_the_reason(shown: tuple[Stand, View]) -> None:
    _, view = shown
    expected = [
        ("/api/v1/top", 400, "missing_parameter"),
        ("/api/v1/top?dimension=x", 400, "invalid_parameter"),
        ("/api/v1/top?dimension=user&n=0", 400, "invalid_parameter"),
        ("/api/v1/top?dimension=user&n=1001", 400, "invalid_parameter"),
        ("/api/v1/top?dimension=user&window=2h", 400, "invalid_parameter"),
        ("/api/v1/top?dimension=user&event_type=auth_failed", 400, "invalid_parameter"),
        ("/api/v1/top?dimension=user&by=user", 400, "invalid_parameter"),
        ("/api/v1/top?dimension=user&dimension=ip", 400, "invalid_parameter"),
        ("/api/v1/top?dimension=user&more=1", 400, "unknown_parameter"),
        ("/api/v1/series?dimension=ip_provider&key=a", 400, "invalid_parameter"),
        ("/api/v1/series?dimension=user&from=x", 400, "invalid_parameter"),
        ("/api/v1/series?dimension=user&from=2020-01-01T00:00:00Z", 404, "not_in_memory"),
        ("/api/v1/destinations/nowhere.example", 404, "unknown_destination"),
        ("/api/v1/messages/18c9aa0012f0004f3a", 401, "unauthorized"),
        ("/api/v1/nothing", 404, "not_found"),
    ]
    for path, status, error in expected:
        answer = httpx.get(view.url + path)
        assert (answer.status_code, answer.json()["error"]) == (status, error), path
        assert answer.json()["detail"]
    answer = httpx.get(f"{view.url}/api/v1/metrics", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    looked = httpx.get(f"{view.url}/api/v1/messages/18c9aa0012f0004f3a", headers={"X-API-Key": KEY})
    assert (looked.status_code, looked.json()["error"]) == (404, "no_nodes")
    assert KEY not in view.said(100_000)


def test_the_page_asks_nobody_else_and_runs_no_script_of_others(shown: tuple[Stand, View]) -> None:
    _, view = shown
    page = httpx.get(view.url)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "://" not in page.text.replace("http://www.w3.org", "")
    assert "style=" not in page.text
    for name in PAGE:
        assert httpx.get(f"{view.url}/page/{name}").status_code == 200


def test_the_description_holds_whatever_is_asked(shown: tuple[Stand, View]) -> None:
    st, view = shown
    assert_described(view, st.folder)


def test_the_view_s_own_metrics_tell_what_it_has_read(shown: tuple[Stand, View]) -> None:
    _, view = shown
    answer = view.get("/metrics")
    assert answer is not None
    lines = answer[1].splitlines()
    assert "mailstream_view_complete 1.0" in lines
    assert "mailstream_view_partitions 4.0" in lines
    assert 'mailstream_view_unusable_records_total{topic="raw.node"} 0.0' in lines


def test_without_kafka_it_answers_what_it_knows_and_says_that_it_is_not_complete(
    tmp_path: Path,
) -> None:
    st = Stand(f"127.0.0.1:{free_port('127.0.0.1')}", tmp_path, view=ANY_VIEW)
    view = View(st.config, st.folder)
    try:
        view.start_and_listen()
        answer = view.get("/health")
        assert answer is not None
        assert (answer[0], json.loads(answer[1])["status"]) == (503, "unavailable")
        assert view.ask("top", dimension="user")["complete"] is False
        assert view.stop() == 0
    finally:
        view.end()


def test_what_is_no_frame_stops_its_partition_alone_and_is_told(
    broker: str, tmp_path: Path
) -> None:
    with viewed(broker, tmp_path) as (st, view):
        asyncio.run(append(st, "deltas", b"no frame", partition=2))
        asyncio.run(append(st, "raw.node", b"no heartbeat", partition=0))
        wait_until(lambda: not view.answers("/health"), "it tells", within_s=SHOWN_S)
        answer = view.get("/health")
        assert answer is not None
        (reason,) = json.loads(answer[1])["detail"]
        assert reason.startswith(f"{st.topic('deltas')} 2 stopped: not a delta frame: ")
        assert view.value("mailstream_view_partitions_stopped") == 1
        assert view.value("mailstream_view_partitions") == 3
        wait_until(
            lambda: view.value("mailstream_view_unusable_records_total") == 1,
            "the other is counted",
            within_s=SHOWN_S,
        )
        assert view.ask("top", dimension="user")["complete"] is False


async def append(st: Stand, topic: str, value: bytes, partition: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=st.bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(st.topic(topic), value, partition=partition)
    finally:
        await producer.stop()


@pytest.mark.parametrize(
    ("section", "reason"),
    [({"listen": "0.0.0.0:0"}, "view.listen"), (None, "view: expected this section")],
)
def test_strangers_need_a_password_and_what_is_off_does_not_run(
    tmp_path: Path, section: Any, reason: str
) -> None:
    st = Stand(f"127.0.0.1:{free_port('127.0.0.1')}", tmp_path, view=section)
    command = mailstream("view", "--config", st.config)
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert reason in refused.stderr
