"""GELF while Kafka is away and while its service is killed: what was taken in hand is not lost."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.gelf import numbered
from tests.kit.kafka_read import read_topics
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import Gelf, wait_until
from tests.kit.stand import Stand, stand

pytestmark = pytest.mark.fault

RECEIVED = "mailstream_component_received_events_total"
SENT = "mailstream_component_sent_events_total"
SPOOLED = "mailstream_spool_records"
FRAMES = 20_000
POSTS = 60
PER_POST = 50

Messages = Sequence[dict[str, Any]]


def ids(messages: Messages) -> set[str]:
    return {message["_queue_id"] for message in messages}


def on_raw(st: Stand) -> set[str]:
    """Return the queue ids on the raw topic."""
    topic = st.topic("raw.gelf")
    records = asyncio.run(read_topics(st.bootstrap, [topic], st.partitions))
    return {json.loads(one.value)["_queue_id"] for one in records}


def send(gelf: Gelf, messages: Messages) -> None:
    address = "127.0.0.1", gelf.port("udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for message in messages:
            sender.sendto(zlib.compress(json.dumps(message).encode()), address)


def test_datagrams_wait_on_disk_while_kafka_is_away_even_if_the_service_is_killed(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    messages = list(numbered(900))
    with stand(kafka.bootstrap, tmp_path) as st:
        gelf = st.gelf()
        wait_until(lambda: gelf.health()["kafka"] == "reachable", "Kafka is there", within_s=60)
        send(gelf, messages[:300])
        wait_until(lambda: gelf.value(SENT) == 300, "they are written", within_s=60)
        kafka.stop()
        send(gelf, messages[300:600])
        wait_until(lambda: gelf.value(SPOOLED) == 300, "they are on disk", within_s=60)
        answer = gelf.get("/health")
        assert answer is not None
        assert answer[0] == 503
        gelf.kill()
        gelf = st.gelf()
        assert gelf.value(SPOOLED) == 300
        send(gelf, messages[600:])
        wait_until(lambda: gelf.value(SPOOLED) == 600, "these too", within_s=60)
        kafka.start()
        wait_until(lambda: gelf.value(SPOOLED) == 0, "the spool is drained", within_s=60)
        wait_until(lambda: gelf.value(SENT) == 600, "all are written", within_s=60)
        assert gelf.value("mailstream_spool_bytes") == 0
        assert on_raw(st) == ids(messages)
        assert gelf.stop() == 0


def test_a_stop_without_kafka_leaves_datagrams_on_disk(kafka: OwnBroker, tmp_path: Path) -> None:
    messages = list(numbered(200))
    with stand(kafka.bootstrap, tmp_path) as st:
        gelf = st.gelf()
        wait_until(lambda: gelf.health()["kafka"] == "reachable", "Kafka is there", within_s=60)
        kafka.stop()
        send(gelf, messages)
        wait_until(lambda: gelf.value(RECEIVED) == 200, "they are received", within_s=60)
        assert gelf.stop() == 0
        kafka.start()
        gelf = st.gelf()
        wait_until(lambda: gelf.value(SENT) == 200, "they are written", within_s=60)
        assert on_raw(st) == ids(messages)


def test_a_connection_is_pushed_back_while_kafka_is_away(kafka: OwnBroker, tmp_path: Path) -> None:
    messages = list(numbered(FRAMES))
    text = b"".join(json.dumps(message).encode() + b"\0" for message in messages)
    with stand(kafka.bootstrap, tmp_path) as st:
        gelf = st.gelf()
        wait_until(lambda: gelf.health()["kafka"] == "reachable", "Kafka is there", within_s=60)
        kafka.stop()
        with socket.create_connection(("127.0.0.1", gelf.port("tcp")), timeout=300) as sender:
            sending = threading.Thread(target=sender.sendall, args=(text,))
            sending.start()
            failed = "mailstream_component_errors_total"
            wait_until(
                lambda: gelf.value(failed, reason="unavailable") > 2, "it is refused", within_s=60
            )
            assert 0 < gelf.value(RECEIVED) < FRAMES
            kafka.start()
            sending.join()
        wait_until(lambda: gelf.value(SENT) == FRAMES, "all are written", within_s=90)
        assert on_raw(st) == ids(messages)


def test_what_was_acknowledged_over_http_survives_kills(kafka: OwnBroker, tmp_path: Path) -> None:
    messages = numbered(POSTS * PER_POST)
    acknowledged: set[str] = set()
    with stand(kafka.bootstrap, tmp_path) as st:
        ingest = st.ingest()

        def post_all() -> None:
            while bulk := list(islice(messages, PER_POST)):
                body = b"\n".join(json.dumps(message).encode() for message in bulk)
                wait_until(lambda body=body: posted(body), "it is acknowledged", within_s=90)  # type: ignore[misc]  # its default binds the loop's value
                acknowledged.update(ids(bulk))

        def posted(body: bytes) -> bool:
            headers = {"Content-Type": "application/json"}
            url = f"http://{ingest.address()}/gelf"
            try:
                return httpx.post(url, content=body, headers=headers, timeout=60).is_success
            except (httpx.TransportError, httpx.InvalidURL):
                return False

        posting = threading.Thread(target=post_all)
        posting.start()
        for part in (1, 2, 3):
            goal = POSTS * PER_POST * part // 4
            wait_until(lambda goal=goal: len(acknowledged) > goal, "some are taken", within_s=90)  # type: ignore[misc]  # as above
            ingest.kill()
            st.ingest()
        posting.join()
        assert len(acknowledged) == POSTS * PER_POST
        assert on_raw(st) == acknowledged
