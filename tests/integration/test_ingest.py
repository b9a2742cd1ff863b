"""Ingest as a sender sees it: the real service before the real broker."""

from __future__ import annotations

import asyncio
import gzip
import json
import shlex
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailstream.ports import free_port
from pipeline.core.event import partition_of
from tests.kit.kafka_read import Read, read_topics
from tests.kit.processes import Ingest, fetch, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand, now_ms, stand

pytestmark = pytest.mark.integration

ONE = "/api/v1/email-events"
BATCH = "/api/v1/email-events/batch"
KEYS = [
    "plain-key",
    {"name": "mx1", "key": "mx-key", "sources": ["haraka"]},
    {"name": "mta1", "key": "mta-key"},
]
EVENT: dict[str, Any] = {
    "timestamp": "2026-01-02T04:04:05.678+01:00",
    "event_type": "bounced",
    "message_id": "<1@example.com>",
    "queue_id": "q1",
    "seq": "001",
    "from": "user1@example.org",
    "to": "john@example.com",
    "response_code": 550,
    "response_message": "550 5.1.1 <john@example.com>: unknown",
    "subject": "secret",
}


@contextmanager
def client(st: Stand, **headers: str) -> Iterator[httpx.Client]:
    address = st.ingest().address()
    assert address is not None
    with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=30) as opened:
        yield opened


def raw(st: Stand) -> list[Read]:
    return asyncio.run(read_topics(st.bootstrap, st.raw, st.partitions))


@pytest.fixture(scope="module")
def keyed(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    limits = {"max_body_bytes": 100_000, "max_inflated_bytes": 300_000, "max_batch_events": 100}
    ingest = {"listen": "127.0.0.1:0", "api_keys": KEYS, **limits}
    folder = tmp_path_factory.mktemp("keyed")
    with stand(broker, folder, ingest=ingest, privacy={"hash_key": "key"}) as st:
        yield st


def test_an_accepted_event_is_on_its_raw_topic_with_key_and_headers(
    broker: str, tmp_path: Path
) -> None:
    with stand(broker, tmp_path) as st, client(st) as http:
        before = now_ms()
        answer = http.post(ONE, json=EVENT)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": []})
        (found,) = raw(st)
        assert (found.topic, found.partition) == (st.raw[0], partition_of(b"q1", 4))
        assert found.key == b"q1"
        names = [name for name, _ in found.headers]
        assert names == ["id", "source", "feed", "origin", "received"]
        told = dict(found.headers)
        assert (told["source"], told["feed"], told["origin"]) == (b"zonemta", b"hook", b"default")
        assert before <= int(told["received"]) <= now_ms()
        value = json.loads(found.value)
        assert "john" not in found.value.decode()
        assert value["to"].endswith("@example.com")
        assert value["to"] in value["response_message"]
        kept = EVENT.keys() - {"subject", "to", "response_message"}
        assert {name: value[name] for name in kept} == {name: EVENT[name] for name in kept}
        assert value.keys() == EVENT.keys() - {"subject"}


def test_a_post_repeated_after_a_restart_has_the_same_ids(broker: str, tmp_path: Path) -> None:
    batch = {"events": [EVENT, EVENT | {"queue_id": None, "seq": None}, EVENT | {"event_id": "e"}]}
    with stand(broker, tmp_path) as st:
        for _ in range(2):
            with client(st) as http:
                assert http.post(BATCH, json=batch).json() == {"accepted": 3, "rejected": []}
            assert st.ingest().stop() == 0
        ids = sorted(dict(found.headers)["id"] for found in raw(st))
        assert ids[::2] == ids[1::2]
        assert len(set(ids)) == 3


def test_keys_decide_who_may_post_what(keyed: Stand) -> None:
    expected: list[tuple[Any, int]] = [
        ({}, 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"X-API-Key": "plain-ke"}, 401),
        ({"X-API-Key": b"\xc3\xbc"}, 401),
        ({"X-API-Key": "mx-key"}, 403),
        ({"X-API-Key": "mx-key", "X-Source": "haraka"}, 202),
        ({"X-API-Key": "mta-key", "X-Source": "ZoneMTA"}, 202),
        ({"X-API-Key": "mta-key", "X-Source": "cpanel"}, 400),
        ({"X-API-Key": "plain-key"}, 202),
    ]
    with client(keyed) as http:
        for headers, status in expected:
            answer = http.post(ONE, json=EVENT | {"origin": "forged"}, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
            if status != 202:
                assert set(answer.json()) == {"error", "detail"}
    origins = {(found.topic, dict(found.headers)["origin"]) for found in raw(keyed)}
    zonemta, haraka = keyed.raw
    assert origins >= {(haraka, b"mx1"), (zonemta, b"mta1"), (zonemta, b"default")}


def test_good_events_of_a_batch_are_taken_and_bad_ones_named(keyed: Stand) -> None:
    events: list[Any] = [EVENT, {**EVENT, "event_type": "x"}, 5, EVENT | {"user": 5}, EVENT]
    with client(keyed, **{"X-API-Key": "mta-key"}) as http:
        answer = http.post(BATCH, json={"events": events})
        assert answer.status_code == 202
        assert answer.json()["accepted"] == 2
        assert [item["index"] for item in answer.json()["rejected"]] == [1, 2, 3]
        assert all(set(item) == {"index", "error"} for item in answer.json()["rejected"])
        none = http.post(BATCH, json={"events": [5]})
        assert (none.status_code, none.json()["accepted"]) == (202, 0)
        single = http.post(ONE, json={**EVENT, "event_type": "x"})
        assert (single.status_code, single.json()["error"]) == (400, "unknown_event_type")


def test_bodies_have_limits_before_and_after_inflating(keyed: Stand) -> None:
    many = json.dumps({"events": [EVENT] * 100}).encode()
    assert len(many) < 100_000
    headers = {"X-API-Key": "mta-key", "Content-Type": "application/json"}
    with client(keyed, **headers) as http:

        def status(body: bytes, **more: str) -> int:
            sent = {name.replace("_", "-"): value for name, value in more.items()}
            return http.post(BATCH, content=body, headers=sent).status_code

        assert status(many) == 202
        assert status(gzip.compress(many), Content_Encoding="gzip") == 202
        assert status(json.dumps({"events": [{}] * 101}).encode()) == 413
        assert status(b" " * 100_001) == 413
        assert status(gzip.compress(b" " * 300_001), Content_Encoding="gzip") == 413
        assert status(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip") == 413
        assert status(gzip.compress(many)[:-9], Content_Encoding="gzip") == 400
        assert status(gzip.compress(many) * 2, Content_Encoding="gzip") == 400
        assert status(many, Content_Encoding="gzip") == 400
        assert status(many, Content_Encoding="br") == 415
        assert status(many, Content_Type="text/plain") == 415
        chunked = http.post(BATCH, content=iter([many[:1000], many[1000:]]))
        assert chunked.status_code == 202
        endless = http.post(BATCH, content=iter([b" " * 50_000] * 3))
        assert endless.status_code == 413


def test_events_received_are_events_sent_or_discarded(keyed: Stand) -> None:
    with client(keyed, **{"X-API-Key": "mta-key"}) as http:
        before = Page([http.get("/metrics").text])
        for events in ([EVENT] * 3, [5, EVENT], [EVENT | {"user": "_other", "x": 1}], []):
            assert http.post(BATCH, json={"events": events}).status_code == 202
        http.post(ONE, json=EVENT)
        http.post(ONE, json={})
        http.post(ONE, content=b"{", headers={"Content-Type": "application/json"})
        after = Page([http.get("/metrics").text])

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    component = "mailstream_component"
    assert grown(f"{component}_received_events_total") == 8
    assert grown(f"{component}_sent_events_total") == 5
    assert grown(f"{component}_discarded_events_total") == 3
    assert grown(f"{component}_errors_total", reason="malformed", stage="receiving") == 1
    assert grown("mailstream_ingest_events_total", source="zonemta", origin="mta1") == 5
    assert grown("mailstream_ingest_rejected_events_total", reason="reserved_value") == 1
    assert grown("mailstream_ingest_redacted_events_total") == 5
    assert grown("mailstream_ingest_unknown_fields_total") == 7
    assert grown("mailstream_ingest_requests_total", route=ONE, status="400") == 2
    assert total(after, "mailstream_ingest_buffer_bytes") == 0
    assert total(after, "mailstream_ingest_reading_bytes") == 0


def total(page: Page, name: str, **labels: str) -> float:
    return sum(
        one.value
        for one in page.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


def test_a_web_page_cannot_post_through_a_browser_on_this_machine(keyed: Stand) -> None:
    with client(keyed, **{"X-API-Key": "mta-key"}) as http:
        assert http.post(ONE, json=EVENT, headers={"Host": "evil.example"}).status_code == 403
        assert http.get("/health", headers={"Host": "evil.example"}).status_code == 403
        assert http.get("/nothing").status_code == 404
        assert http.get(ONE).status_code == 405
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        for path in (ONE, "/gelf"):
            answer = http.options(path, headers=asked)
            assert answer.status_code == 405
            assert "access-control-allow-origin" not in answer.headers


def test_a_sender_that_breaks_off_harms_nobody(keyed: Stand) -> None:
    address = keyed.ingest().address()
    assert address is not None
    host, _, port = address.rpartition(":")
    head = f"POST {ONE} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: mta-key\r\nContent-Type: application/json\r\n"
    for rest in (
        "Content-Length: 1000\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall((head + rest).encode())
    with client(keyed, **{"X-API-Key": "mta-key"}) as http:
        assert http.post(ONE, json=EVENT).status_code == 202
        page = Page([http.get("/metrics").text])
        assert total(page, "mailstream_ingest_requests_total", status="500") == 0


def test_the_service_starts_without_kafka_and_says_so(tmp_path: Path) -> None:
    st = Stand(f"127.0.0.1:{free_port('127.0.0.1')}", tmp_path)
    ingest = Ingest(st.config, st.folder)
    ingest.start()
    try:
        wait_until(ingest.address, "it is announced", within_s=30)
        answer = fetch(f"http://{ingest.address()}/health")
        assert answer is not None
        assert answer[0] == 503
        assert json.loads(answer[1])["kafka"] == "away"
        refused = httpx.post(f"http://{ingest.address()}{ONE}", json=EVENT)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert ingest.stop() == 0
    finally:
        ingest.end()


def test_an_address_that_others_reach_needs_keys_or_networks(broker: str, tmp_path: Path) -> None:
    st = Stand(broker, tmp_path, ingest={"listen": "0.0.0.0:0"})
    ingest = Ingest(st.config, st.folder)
    ingest.start()
    try:
        wait_until(lambda: not ingest.running, "it refuses to start", within_s=30)
        assert "others can reach this address" in ingest.said()
    finally:
        ingest.end()


def test_only_allowed_networks_may_connect(broker: str, tmp_path: Path) -> None:
    ingest = {"listen": "127.0.0.1:0", "allow": ["192.0.2.0/24"]}
    st = Stand(broker, tmp_path, ingest=ingest)
    program = Ingest(st.config, st.folder)
    program.start()
    try:
        wait_until(program.address, "it is announced", within_s=30)
        assert httpx.post(f"http://{program.address()}{ONE}", json=EVENT).status_code == 403
    finally:
        program.end()


def test_posts_may_be_encrypted(broker: str, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    named = f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}"
    subprocess.run(shlex.split(f"{made} {named}"), check=True, capture_output=True)
    ingest = {"listen": "127.0.0.1:0", "tls_cert": str(cert), "tls_key": str(key)}
    with stand(broker, tmp_path / "data", ingest=ingest) as st:
        program = Ingest(st.config, st.folder)
        program.start()
        try:
            wait_until(program.address, "it is announced", within_s=30)
            trust = ssl.create_default_context(cafile=cert)
            with httpx.Client(base_url=f"https://{program.address()}", verify=trust) as http:
                wait_until(
                    lambda: http.get("/health").status_code == 200, "it is well", within_s=30
                )
                assert http.post(ONE, json=EVENT).status_code == 202
        finally:
            program.end()


def test_a_stop_answers_the_posts_that_were_begun(broker: str, tmp_path: Path) -> None:
    with stand(broker, tmp_path) as st:
        service = st.ingest()
        address = service.address()
        assert address is not None
        host, _, port = address.rpartition(":")
        body = json.dumps(EVENT).encode()
        head = (
            f"POST {ONE} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode() + body[:-1])
            wait_until(lambda: reading(address) > 0, "it reads the body", within_s=10)
            service.ask_to_stop()
            wait_until(lambda: refuses(host, int(port)), "it takes no more", within_s=10)
            connection.sendall(body[-1:])
            answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 202"), answer
        wait_until(lambda: not service.running, "it ends", within_s=30)
        assert len(raw(st)) == 1


def reading(address: str) -> float:
    answer = fetch(f"http://{address}/metrics")
    return total(Page([answer[1]]), "mailstream_ingest_reading_bytes") if answer else 0


def refuses(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return True
    return False
