"""ZoneMTA's ``log.remote`` before the real broker: the service, the worker, and hooks beside it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailstream.ports import free_port
from tests.kit.gelf import sample
from tests.kit.kafka_read import Read, read_topics
from tests.kit.log_remote import numbered, samples, written
from tests.kit.processes import LogRemote, Service, mailstream, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand, stand

pytestmark = pytest.mark.integration

RECEIVED = "mailstream_component_received_events_total"
SENT = "mailstream_component_sent_events_total"
DISCARDED = "mailstream_component_discarded_events_total"
HOST = "127.0.0.1"
SAMPLES = samples()
EVENTS = [one for one in SAMPLES.values() if one.event is not None]


def feed(**more: Any) -> dict[str, Any]:
    """Return a section ``zonemta`` that takes any free ports."""
    return {"log_remote": {"listen": f"{HOST}:0", "udp": f"{HOST}:0", **more}}


def send(service: Service, port: int, datagrams: Iterable[bytes]) -> None:
    assert service.running
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, (HOST, port))


def settle(service: LogRemote, received: int) -> None:
    """Wait until all that was sent has come and is written."""
    wait_until(
        lambda: (
            service.value(RECEIVED) == received == service.value(SENT) + service.value(DISCARDED)
        ),
        "all is received and written",
        within_s=30,
    )


def raw(st: Stand) -> Sequence[Read]:
    return asyncio.run(read_topics(st.bootstrap, [st.topic("raw.zonemta")], st.partitions))


def test_entries_arrive_on_the_raw_topic_and_others_are_counted(
    broker: str, tmp_path: Path
) -> None:
    with stand(broker, tmp_path, zonemta=feed()) as st:
        service = st.log_remote()
        bad = [b"rubbish", written({"id": "a"}), written({"id": "a", "action": "QUEUE_POLL"})]
        sent = [*(one.datagram for one in SAMPLES.values()), *bad]
        send(service, service.port("udp"), sent)
        settle(service, len(sent))
        found = raw(st)
        told = {one.event["event_id"] for one in EVENTS if one.event is not None}
        assert {one.header("id") for one in found} == told
        assert {one.header("feed") for one in found} == {"log_remote"}
        assert all(one.key == json.loads(one.value)["id"].encode() for one in found)
        counted = {
            reason: service.value(DISCARDED, reason=reason)
            for reason in ("malformed", "missing_field", "noise", "not_allowed")
        }
        assert counted == {"malformed": 1, "missing_field": 1, "noise": 2, "not_allowed": 0}
        noise = "mailstream_log_remote_noise_total"
        assert service.value(noise, kind="queue_bounce") == 1
        assert service.value(noise, kind="queue_poll") == 1
        assert service.value("mailstream_log_remote_kernel_dropped_datagrams_total") == 0
        for hidden in ("ok@", "subject", "Alice Example"):
            assert hidden not in repr(found)
        answer = service.get("/metrics")
        assert answer is not None
        shown = set(re.findall(r"^# TYPE (mailstream_log_remote\w+)", answer[1], re.MULTILINE))
        text = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
        assert len(shown) == 4
        assert not shown - set(re.findall(r"`([^`\s]+)`", text))
        assert service.stop() == 0


def test_a_sender_whose_network_is_not_allowed_is_counted(broker: str, tmp_path: Path) -> None:
    with stand(broker, tmp_path, zonemta=feed(allow=["192.0.2.0/24"])) as st:
        service = st.log_remote()
        send(service, service.port("udp"), numbered(5))
        wait_until(
            lambda: service.value(DISCARDED, reason="not_allowed") == 5, "refused", within_s=30
        )
        assert raw(st) == []


def test_what_hooks_the_log_and_gelf_tell_counts_once(broker: str, tmp_path: Path) -> None:
    names = ("QUEUED/authenticated", "ACCEPTED", "DEFERRED/greylist", "REJECTED/recipient")
    chosen = [SAMPLES[name] for name in (*names, "NOQUEUE", "DELETED")]
    now = time.time()
    posted = [{**(one.event or {}), "timestamp": now} for one in chosen]
    words = ("mta_queued", "mta_accepted", "mta_deferred", "mta_bounced", "mta_noqueue")
    gelf = [{**sample(word), "timestamp": now} for word in words]
    with stand(broker, tmp_path, zonemta=feed()) as st:
        worker, log, graylog, ingest = st.worker(), st.log_remote(), st.gelf(), st.ingest()
        for _turn in range(2):
            send(log, log.port("udp"), [one.datagram for one in chosen])
            texts = [zlib.compress(json.dumps(one).encode()) for one in gelf]
            send(graylog, graylog.port("udp"), texts)
            answer = httpx.post(
                f"http://{ingest.address()}/api/v1/email-events/batch",
                json={"events": posted},
                headers={"X-Source": "zonemta"},
                timeout=30,
            )
            assert answer.status_code == 202, answer.text

        def counted() -> Page | None:
            page = Page([worker.metrics() or ""])
            duplicates = page.total("mail_events_duplicate_total", source="zonemta")
            shadows = page.total("mail_events_shadow_total", source="gelf")
            done = duplicates == 3 * len(chosen) and shadows == len(gelf)
            return page if done else None

        page = wait_until(counted, "all three feeds are read", within_s=60)
        assert page is not None
        kinds = ("sent", "delivered", "deferred", "bounced", "rejected")
        told = [page.total("mail_events_total", event_type=kind) for kind in kinds]
        assert told == [1, 1, 1, 1, 2]
        assert page.total("mail_events_total") == len(chosen)


def test_an_address_that_others_reach_needs_allowed_networks(broker: str, tmp_path: Path) -> None:
    st = Stand(broker, tmp_path, zonemta=feed(udp=f"0.0.0.0:{free_port(HOST)}"))
    command = mailstream("produce", "log-remote", "--config", st.config)
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    key = "zonemta.log_remote"
    assert f"{key}.udp: others can reach this address: expected {key}.allow" in ended.stderr
