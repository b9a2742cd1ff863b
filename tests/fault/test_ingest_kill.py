"""Nothing acknowledged is lost: ingest is killed, and the broker goes away, while senders post."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.kit.kafka_read import read_topics
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.stand import Stand, now_ms, stand

pytestmark = pytest.mark.fault

SENDERS = 3
BATCH = 100
KILLS = 5
PER_ROUND = 2000
"""Events acknowledged between two faults, at least."""


class Senders:
    """MTAs: each keeps its batch until it is acknowledged, and posts it again until it is."""

    def __init__(self, address: Callable[[], str | None]) -> None:
        self.acknowledged: set[str] = set()
        self.unavailable = 0
        """Posts answered with 503."""
        self.failures: list[str] = []
        self._address = address
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(SENDERS)
        ]

    @contextmanager
    def posting(self) -> Iterator[None]:
        """Post until the block ends; then each sender sees its last batch through."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join()
        assert not self.failures, self.failures

    def wait_for_more(self, events: int = PER_ROUND) -> None:
        """Wait until so many more events are acknowledged."""
        goal = len(self.acknowledged) + events
        wait_until(lambda: len(self.acknowledged) >= goal, "events are taken", within_s=90)

    def _run(self, sender: int) -> None:
        rng = random.Random(sender)
        turn = 0
        while not self._stopping.is_set() and not self.failures:
            turn += 1
            ids = [f"{sender}-{turn}-{number}" for number in range(BATCH)]
            body = _body(ids, rng)
            while not self.failures and not self._post(body, ids):
                self._stopping.wait(0.05)

    def _post(self, body: bytes, ids: list[str]) -> bool:
        try:
            answer = httpx.post(
                f"http://{self._address()}/api/v1/email-events/batch",
                content=body,
                headers={"Content-Type": "application/json"},
                timeout=60,
            )
        except (httpx.TransportError, httpx.InvalidURL):
            return False
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            self.unavailable += 1
            return False
        if answer.status_code != httpx.codes.ACCEPTED or answer.json()["accepted"] != len(ids):
            self.failures.append(f"{answer.status_code} {answer.text[:200]}")
            return False
        self.acknowledged.update(ids)
        return True


def _body(ids: list[str], rng: random.Random) -> bytes:
    events = [
        {
            "event_id": one,
            "timestamp": now_ms() / 1000,
            "event_type": "delivered",
            "queue_id": f"{rng.getrandbits(64):x}",
            "response_message": "250 " + "x" * rng.randrange(300),
        }
        for one in ids
    ]
    return json.dumps({"events": events}).encode()


def assert_all_on_raw(st: Stand, senders: Senders) -> None:
    found = asyncio.run(read_topics(st.bootstrap, st.raw, st.partitions))
    ids = {one.header("id") for one in found}
    lost = senders.acknowledged - ids
    assert not lost, f"{len(lost)} of {len(senders.acknowledged)} acknowledged events are lost"
    assert {json.loads(one.value)["event_id"] for one in found} == ids


def test_what_was_acknowledged_survives_kills_of_ingest(kafka: OwnBroker, tmp_path: Path) -> None:
    with stand(kafka.bootstrap, tmp_path) as st:
        ingest = st.ingest()
        senders = Senders(ingest.address)
        rng = random.Random(1)
        with senders.posting():
            for _ in range(KILLS):
                senders.wait_for_more(rng.randrange(PER_ROUND))
                ingest.kill()
                st.ingest()
            senders.wait_for_more()
        assert_all_on_raw(st, senders)


@pytest.mark.parametrize("end", [OwnBroker.stop, OwnBroker.kill])
def test_ingest_outlives_a_broker_that_goes_and_comes_back(
    kafka: OwnBroker, tmp_path: Path, end: Callable[[OwnBroker], None]
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st:
        ingest = st.ingest()
        senders = Senders(ingest.address)
        with senders.posting():
            senders.wait_for_more()
            end(kafka)
            wait_until(lambda: _health(st) == 503, "ingest knows it", within_s=60)
            kafka.start()
            senders.wait_for_more()
            wait_until(lambda: _health(st) == 200, "ingest is well again", within_s=60)
        assert_all_on_raw(st, senders)
        assert ingest.stop() == 0


def test_a_broker_that_stays_away_makes_ingest_refuse_posts_and_stop_in_time(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st:
        ingest = st.ingest()
        senders = Senders(ingest.address)
        kafka.stop()
        with senders.posting():
            wait_until(lambda: senders.unavailable > SENDERS, "posts are refused", within_s=90)
            assert _health(st) == 503
            kafka.start()
            senders.wait_for_more()
            kafka.stop()
            assert ingest.stop() == 0
            kafka.start()
            st.ingest()
        assert_all_on_raw(st, senders)


def _health(st: Stand) -> int | None:
    answer = st.ingest().get("/health")
    return answer[0] if answer is not None else None
