"""Marked addresses, subjects and secrets go in through every source; they are nowhere afterwards."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.core.topics import TOPICS
from tests.kit.cpanel_process import fresh_row, poller, section
from tests.kit.gelf import sample
from tests.kit.kafka_read import Read, read_topics
from tests.kit.log_remote import written
from tests.kit.processes import Gelf, LogRemote, Service, wait_until
from tests.kit.stand import Stand, now_ms, stand
from tests.kit.whm import Whm, serving

pytestmark = pytest.mark.integration

HERE = "127.0.0.1"
RECIPIENT, SENDER, SUBJECT = "marked-recipient", "marked-sender", "marked subject"
CLIENT = "198.51.100.77"
KEY = "marked-ingest-key"
HIDDEN = (RECIPIENT, SENDER, SUBJECT, KEY, "marked-hash-key")
TO, FROM = f"{RECIPIENT}@example.net", f"{SENDER}@customer.example"
REPLY = f"550 5.1.1 <{TO}>: user unknown"
SENT = "mailstream_component_sent_events_total"

HOOK = {
    "event_type": "bounced",
    "queue_id": "q1",
    "user": FROM,
    "from_address": FROM,
    "to": TO,
    "client_ip": CLIENT,
    "response_message": REPLY,
    "subject": SUBJECT,
}
LOG_ENTRY = {
    "id": "1a1fb6f862e000f6aa",
    "seq": "001",
    "action": "REJECTED",
    "from": FROM,
    "to": TO,
    "src": CLIENT,
    "response": REPLY,
    "subject": SUBJECT,
}
GELF_MAIL = {
    **sample("mta_accepted"),
    "_from": FROM,
    "_to": TO,
    "_src": CLIENT,
    "_response": REPLY,
    "_subject": SUBJECT,
    "short_message": f"MTA [ACCEPTED] {SUBJECT} {TO}",
}
ROW = {"recipient": TO, "deliveredto": TO, "sender": FROM, "message": REPLY, "subject": SUBJECT}


def _post(st: Stand, sources: tuple[str, ...]) -> None:
    url, key = f"http://{st.ingest().address()}/api/v1/email-events", {"X-API-Key": KEY}
    for source in sources:
        event = {**HOOK, "timestamp": now_ms() / 1000}
        answer = httpx.post(url, json=event, headers={**key, "X-Source": source})
        assert answer.status_code == 202, answer.text


def _datagram(service: Gelf | LogRemote, port: int, payload: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(payload, (HERE, port))
    wait_until(lambda: service.value(SENT) >= 1, "it is written", within_s=30)


def _settings(pseudonymise: list[str], **privacy: Any) -> dict[str, Any]:
    return {
        "ingest": {"listen": f"{HERE}:0", "api_keys": [{"name": "mta1", "key": KEY}]},
        "zonemta": {"log_remote": {"listen": f"{HERE}:0", "udp": f"{HERE}:0"}},
        "privacy": {"hash_key": "marked-hash-key", "pseudonymise": pseudonymise, **privacy},
    }


def _stored(st: Stand) -> list[Read]:
    topics = [st.topic(topic.name) for topic in TOPICS]
    return asyncio.run(read_topics(st.bootstrap, topics, st.partitions))


def _texts(st: Stand, folder: Path, services: list[Service]) -> Iterator[str]:
    for service in services:
        for path in ("/metrics", "/health"):
            answer = service.get(path)
            if answer is not None:
                yield answer[1]
        yield service.said(1 << 20)
    for record in _stored(st):
        yield repr(record)
    for file in folder.rglob("*"):
        if file.is_file() and file != st.config:
            yield file.read_bytes().decode(errors="replace")


def test_nothing_personal_of_any_source_is_stored_shown_or_logged(
    broker: str, tmp_path: Path
) -> None:
    whm = Whm(user="web1")
    whm.add(fresh_row(1, **ROW), fresh_row(2, **ROW))
    with (
        serving(whm) as url,
        stand(
            broker,
            tmp_path,
            cpanel=section(url, [whm], interval="1s"),
            **_settings(["user", "client_ip"]),
        ) as st,
    ):
        cpanel = poller(st)
        try:
            worker, gelf, log_remote = st.worker(), st.gelf(), st.log_remote()
            _post(st, ("zonemta", "haraka"))
            _datagram(gelf, gelf.port("udp"), json.dumps(GELF_MAIL).encode())
            _datagram(log_remote, log_remote.port("udp"), written(LOG_ENTRY))
            wait_until(
                lambda: len(_events(st)) >= 5, "all events are enriched", within_s=90, every_s=0.5
            )
            services = [worker, gelf, log_remote, cpanel, st.ingest()]
            texts = list(_texts(st, tmp_path, services))
        finally:
            cpanel.end()
    # Of cPanel the account is the user, and stays: nothing in its rows is a login of a person.
    leaks = [(hidden, text) for text in texts for hidden in (*HIDDEN, CLIENT) if hidden in text]
    assert leaks == []


def test_a_source_may_be_treated_otherwise_than_the_rest(broker: str, tmp_path: Path) -> None:
    sources = {"haraka": {"pseudonymise": [], "keep_recipients": True}}
    with stand(broker, tmp_path, **_settings(["user"], sources=sources)) as st:
        st.worker()
        _post(st, ("zonemta", "haraka"))
        wait_until(lambda: len(_events(st)) >= 2, "both are enriched", within_s=90, every_s=0.5)
        raw = {
            one.header("source"): one.value.decode() for one in _stored(st) if one.topic in st.raw
        }
    assert FROM in raw["haraka"]
    assert TO in raw["haraka"]
    assert SENDER not in raw["zonemta"]
    assert RECIPIENT not in raw["zonemta"]


def _events(st: Stand) -> list[dict[str, Any]]:
    found = asyncio.run(read_topics(st.bootstrap, [st.topic("events")], st.partitions))
    return [json.loads(one.value) for one in found]
