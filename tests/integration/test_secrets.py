"""One flow with every kind of secret and recipient in it: none shows anywhere afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from pipeline.core.topics import TOPICS
from tests.kit.kafka_read import Read, read_topics
from tests.kit.processes import fetch, wait_until
from tests.kit.stand import Stand, now_ms, stand

pytestmark = pytest.mark.integration

KEY, PASSWORD, HASH_KEY = "ingest-key-5ecret", "scrape-pass-5ecret", "hash-key-5ecret"
RECIPIENT = "jane.roe"
EVENT: dict[str, Any] = {
    "event_type": "bounced",
    "queue_id": "q1",
    "user": "customer@sender.example",
    "to": f"{RECIPIENT}@example.com",
    "to_user": f"{RECIPIENT}@example.com",
    "to_hash": f"{RECIPIENT}@example.com",
    "to_domain": f"{RECIPIENT}@example.com",
    "sending_ip": "192.0.2.1",
    "response_message": f"550 5.1.1 <{RECIPIENT}@example.com>: see x.example/?{RECIPIENT}%40example.com",
    "error_message": f'"{RECIPIENT}"@example.com and \\"{RECIPIENT}\\"@example.com',
    "error_code": f"{RECIPIENT}@example.com",
    "subject": KEY,
}
PATHS = ("/health", "/ready", "/workers", "/metrics")
HIDDEN = (KEY, KEY[:-1], PASSWORD, HASH_KEY, RECIPIENT)


async def _write(st: Stand, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=st.bootstrap)
    await producer.start()
    await producer.send_and_wait(st.raw[0], value, partition=0)
    await producer.stop()


def _records(st: Stand) -> list[Read]:
    topics = [st.topic(topic.name) for topic in TOPICS]
    return asyncio.run(read_topics(st.bootstrap, topics, st.partitions))


def test_no_secret_and_no_recipient_is_in_topics_metrics_or_logs(
    broker: str, tmp_path: Path
) -> None:
    with stand(
        broker,
        tmp_path,
        ingest={"listen": "127.0.0.1:0", "api_keys": [{"name": "mta1", "key": KEY}]},
        metrics={"listen": "127.0.0.1:0", "username": "prometheus", "password": PASSWORD},
        privacy={"hash_key": HASH_KEY},
    ) as st:
        ingest, worker = st.ingest(), st.worker()
        url, headers = f"http://{ingest.address()}/api/v1/email-events", {"X-API-Key": KEY}
        event = EVENT | {"timestamp": now_ms() / 1000}
        shown = [httpx.post(url, json=event, headers=headers).text]
        wrong = (event | {"sending_ip": RECIPIENT}, {RECIPIENT: KEY}, [event])
        shown += [httpx.post(url, json=body, headers=headers).text for body in wrong]
        shown.append(httpx.post(url, json=event, headers={"X-API-Key": KEY[:-1]}).text)
        asyncio.run(_write(st, f'{{"to":"{RECIPIENT}@example.com"'.encode()))

        def page(address: str | None) -> str:
            auth = ("prometheus", PASSWORD)
            return httpx.get(f"http://{address}/metrics", auth=auth).text if address else ""

        wait_until(
            lambda: (
                'mail_events_dead_total{reason="missing_header"' in page(worker.address())
                and "mail_user_events{" in page(worker.address())
            ),
            "both records are committed",
            within_s=60,
            every_s=0.3,
        )
        for program in (ingest, worker):
            shown.append(page(program.address()))
            shown += [(fetch(f"http://{program.address()}{path}") or (0, ""))[1] for path in PATHS]
            assert program.stop() == 0
        shown += [path.read_text() for path in tmp_path.rglob("*.log")]
        ours = (one for one in _records(st) if one.headers or one.topic not in st.raw)
        shown += [repr(record) for record in ours]
    assert sum("mta1" in text for text in shown) > 2
    assert sum("customer@sender.example" in text for text in shown) > 2
    leaks = [text for text in shown for hidden in HIDDEN if hidden in text]
    assert leaks == []
