"""``mailstream dead``: what a real worker could not use, and its second try."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from pipeline.core.event import partition_of
from tests.kit import sensitive_worker
from tests.kit.kafka_admin import admin_of
from tests.kit.kafka_read import read_topics
from tests.kit.processes import ROOT, mailstream
from tests.kit.raw_log import RawRecord, RawWriter, raw_record
from tests.kit.stand import Stand, now_ms, stand
from tests.kit.traffic import Event, Varied

pytestmark = pytest.mark.integration

POISONED = (0, 3, 17)
EVENTS = 40
KEY = b"garbage"
GARBAGE = b"alice@example.com \xff\x1b[2J"


@pytest.fixture(scope="module")
def st(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Return a stand whose first worker had a bug; its successor runs."""
    with stand(broker, tmp_path_factory.mktemp("dead"), partitions=2) as made:
        asyncio.run(write(made))
        made.worker(1, [sensitive_worker.__name__])
        made.wait_until_caught_up()
        made.worker(1).stop()
        made.worker(2)
        made.wait_until_ready()
        yield made


async def write(st: Stand) -> None:
    """Write good events, poisoned ones, garbage, and a dead letter of no raw record."""
    now = now_ms()
    traffic = Varied(seed=8, now_ms=now)
    events: list[Event] = [traffic.zonemta() for _ in range(EVENTS)]
    for place, event in enumerate(events):
        event["event_id"] = f"e{place}"
        if place in POISONED:
            event["mta_node"] = "poison"
    async with RawWriter(st.bootstrap, st.raw[0], st.partitions) as writer:
        await writer.write(raw_record(event, "zonemta", now) for event in events)
    headers = raw_record({"event_id": "g"}, "haraka", now).headers
    async with RawWriter(st.bootstrap, st.raw[1], st.partitions) as writer:
        await writer.write([RawRecord(KEY, GARBAGE, headers, now)])
    producer = AIOKafkaProducer(bootstrap_servers=st.bootstrap)
    await producer.start()
    await producer.send_and_wait(st.topic("dead"), b"{}", partition=1, headers=[("error", b"odd")])
    await producer.stop()


def dead(st: Stand, *arguments: str, code: int = 0) -> list[str]:
    command = mailstream("dead", *arguments, "--config", st.config)
    ran = subprocess.run(command, capture_output=True, cwd=ROOT, check=False, timeout=60)
    assert ran.stderr == b""
    assert ran.returncode == code, ran.stdout
    return ran.stdout.decode().splitlines()


def counts(st: Stand, *arguments: str) -> dict[tuple[str, str], str]:
    rows = [line.split("\t") for line in dead(st, "list", *arguments)]
    assert rows[0] == ["source", "reason", "count", "newest", "place"]
    return {(source, reason): count for source, reason, count, *_ in rows[1:]}


def events(st: Stand) -> Counter[str]:
    st.wait_until_caught_up()
    return Counter(event["event_id"] for event in st.events())


def test_they_are_counted_by_source_and_reason_and_listed_one_by_one(st: Stand) -> None:
    assert counts(st).keys() == {("-", "other"), ("haraka", "malformed"), ("zonemta", "bug")}
    assert counts(st, "--reason", "bug") == {("zonemta", "bug"): "3"}
    assert counts(st, "--source", "haraka").keys() == {("haraka", "malformed")}
    lines = [line.split("\t") for line in dead(st, "list", "--each", "--reason", "bug")]
    assert {line[3] for line in lines} == {"bug: ZeroDivisionError: poison"}
    assert len(lines) == 3


def test_one_is_shown_in_full_without_addresses_or_commands(st: Stand) -> None:
    first = dead(st, "list", "--each", "--source", "haraka")[0]
    place, _written, _source, error = first.split("\t")
    shown = dead(st, "show", place)
    assert f"error: {error}" in shown
    assert f"topic: {st.raw[1]}" in shown
    assert "key: garbage" in shown
    assert any(line.startswith("original: Kafka still holds it") for line in shown)
    in_hex = b"***@example.com \xff\x1b[2J".hex()
    assert "".join(line[10:].replace(" ", "") for line in shown if line.startswith("000")) == in_hex
    place = dead(st, "list", "--each", "--reason", "bug")[0].split("\t")[0]
    assert json.loads(dead(st, "show", place)[-1])["mta_node"] == "poison"


def test_a_place_that_holds_none_is_an_error(st: Stand) -> None:
    for place in ("0:999999", "77:0"):
        ran = subprocess.run(
            mailstream("dead", "show", place, "--config", st.config),
            capture_output=True,
            cwd=ROOT,
            check=False,
        )
        assert ran.returncode == 1
        assert ran.stderr == f"mailstream: Kafka holds no dead letter at {place}\n".encode()


def test_a_retry_makes_events_of_them_once_however_often_it_is_asked_for(st: Stand) -> None:
    poisoned = {f"e{place}" for place in POISONED}
    every = {f"e{place}" for place in range(EVENTS)}
    assert dead(st, "retry", "--reason", "bug") == [
        "3 dead letters selected",
        "3 would be written to their raw topics again; --yes does it",
    ]
    assert events(st).keys() == every - poisoned
    for _ in range(2):
        assert dead(st, "retry", "--reason", "bug", "--yes") == [
            "3 dead letters selected",
            "3 written to their raw topics again",
        ]
        assert events(st) == Counter(every)
    copies = [one for one in raw_records(st) if one[0] in poisoned]
    assert len(copies) == 3 * 3
    assert len(set(copies)) == 3, "the originals, byte for byte"


def raw_records(st: Stand) -> list[tuple[str, str, int]]:
    """Return id, body and time of receipt of what the first raw topic holds."""
    found = asyncio.run(read_topics(st.bootstrap, [st.raw[0]], st.partitions))
    return [(one.header("id"), one.value.decode(), int(one.header("received"))) for one in found]


def test_what_is_still_unusable_dies_again_and_is_retried_as_long_as_kafka_holds_it(
    st: Stand,
) -> None:
    dead(st, "retry", "--source", "haraka", "--yes")
    st.wait_until_caught_up()
    assert counts(st, "--source", "haraka") == {("haraka", "malformed"): "2"}
    assert dead(st, "retry", "--source", "haraka") == [
        "2 dead letters selected",
        "1 are copies of others of them",
        "1 would be written to their raw topics again; --yes does it",
    ]
    place = dead(st, "list", "--each", "--source", "haraka")[0].split("\t")[0]
    assert dead(st, "retry", "--at", place)[0] == "1 dead letters selected"

    asyncio.run(delete_raw(st))
    _selected, gone, written = dead(st, "retry", "--source", "haraka", "--yes", code=1)
    assert gone.startswith("2 cannot be retried: Kafka no longer holds the original")
    assert written == "0 written to their raw topics again"
    assert "original: Kafka no longer holds it; what follows cannot be retried" in dead(
        st, "show", place
    )


def test_what_comes_from_no_raw_topic_is_told(st: Stand) -> None:
    assert dead(st, "retry", "--reason", "other", code=1)[1] == (
        "1 cannot be retried: they do not come from a raw topic"
    )


async def delete_raw(st: Stand) -> None:
    """Let the second raw topic go of what it holds, as retention would."""
    tp = TopicPartition(st.raw[1], partition_of(KEY, st.partitions))
    async with admin_of(st.bootstrap) as admin:
        await admin.delete_records({tp: RecordsToDelete(before_offset=2)})
