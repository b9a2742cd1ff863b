"""``mailstream backfill``: from Kafka and PostgreSQL through promtool into a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from mailstream.ports import free_port
from pipeline.core.event import MailEvent
from pipeline.core.timestamp import epoch_ms, rfc3339
from tests.kit.event_log import EventLog, event_log
from tests.kit.kafka_admin import admin_of
from tests.kit.postgres import Database
from tests.kit.processes import ROOT, START_S, Program, fetch, mailstream, wait_until
from tests.kit.programs import program
from tests.kit.sink import PANES, event, item, items, made, stored
from tests.kit.stand import now_ms

pytestmark = pytest.mark.integration

MINUTE = 60_000
STEP = 5 * MINUTE
HOUR = 60 * MINUTE
END = now_ms() // STEP * STEP - 2 * HOUR
START = END - 6 * HOUR


def events() -> list[MailEvent]:
    """Return six hours of events, one every 13 s."""
    times = range(START - HOUR, END, 13_000)
    return [
        event(number, at, sending_ip="192.0.2.1", to_domain=f"d{number % 11}.example")
        for number, at in enumerate(times)
    ]


def config(folder: Path, log: EventLog, dsn: str) -> Path:
    path = folder / "mailstream.yaml"
    path.write_text(
        json.dumps(
            {
                "data_dir": str(folder),
                "kafka": {"bootstrap_servers": log.bootstrap},
                "topics": {"prefix": log.settings.topics.prefix, "partitions": log.partitions},
                "sinks": {"postgres": {"dsn": dsn}},
            }
        )
    )
    return path


def backfill(path: Path, to: Path, *more: str) -> tuple[int, str]:
    span = ["--from", rfc3339(START), "--until", rfc3339(END), "--to-file", str(to)]
    command = [str(part) for part in mailstream("backfill", "--config", path, *span, *more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


async def in_both(log: EventLog, database: Database) -> None:
    await log.write(events())
    sink = made(database.dsn, None)
    await sink.open()
    await stored(sink, items(events()))
    await sink.close()


def panes() -> list[dict[str, Any]]:
    """Return the panes of those events, each in two records, which add up."""
    found: Counter[tuple[str, str, str, int]] = Counter()
    for one in events():
        start = epoch_ms(one.timestamp or "") // STEP * STEP
        found["user", str(one.user), str(one.event_type), start] += 1
        found["ip", str(one.sending_ip), str(one.event_type), start] += 1
    volumes: Counter[tuple[str, int]] = Counter()
    for one in events():
        if one.event_type == "sent":
            start = epoch_ms(one.timestamp or "") // STEP * STEP
            volumes[str(one.user), start] += one.size_bytes or 0
    records = []
    for (family, key, event_type, start), count in found.items():
        pane = {"family": family, "key": [key], "event_type": event_type, "start": start}
        told = family == "user" and event_type == "sent"
        size = volumes[key, start] if told else 0
        first = {"count": 1, "recipients": int(told), "bytes": size}
        rest = {"count": count - 1, "recipients": (count - 1) * told, "bytes": 0}
        records += [{**pane, "length_s": 300, **sums} for sums in (first, rest) if sums["count"]]
    return records


async def publish(log: EventLog, records: Sequence[dict[str, Any]]) -> None:
    """Write *records* to the topic of panes, and one that is none."""
    topic = f"{log.settings.topics.prefix}panes"
    async with admin_of(log.bootstrap) as admin:
        if topic not in await admin.list_topics():
            await admin.create_topics([NewTopic(topic, log.partitions, 1)])
    producer = AIOKafkaProducer(bootstrap_servers=log.bootstrap, linger_ms=20)
    await producer.start()
    try:
        for one in records:
            name = [one["family"], one["key"], one["event_type"]]
            await producer.send(topic, json.dumps(one).encode(), key=json.dumps(name).encode())
        await producer.send_and_wait(topic, b"no pane", key=b"x")
    finally:
        await producer.stop()


async def panes_in_both(log: EventLog, database: Database) -> None:
    await publish(log, panes())
    sink = made(database.dsn, None)
    await sink.open()
    values = [json.dumps(one).encode() for one in panes()]
    await stored(sink, [item(at, value, PANES) for at, value in enumerate(values)])
    await sink.close()


def lines(path: Path) -> set[str]:
    """Return the samples that panes tell too."""
    return {
        line
        for line in path.read_text().splitlines()
        if not line.startswith(("#", "mail_user_destinations", "mail_user_client_ips"))
    }


def test_panes_give_what_their_events_give(broker: str, database: Database, tmp_path: Path) -> None:
    both = "--family", "user", "--family", "ip"
    with event_log(broker) as log:
        asyncio.run(in_both(log, database))
        asyncio.run(panes_in_both(log, database))
        path = config(tmp_path, log, database.dsn)
        assert backfill(path, tmp_path / "events", *both)[0] == 0
        expected = lines(tmp_path / "events")
        assert any(line.startswith("mail_user_bytes") for line in expected)
        for source in ("kafka", "postgres"):
            to = tmp_path / f"panes-{source}"
            code, said = backfill(path, to, *both, "--of", "panes", "--source", source)
            assert code == 0, said
            assert f"{len(panes())} panes counted" in said
            assert ("1 records could not be read" in said) == (source == "kafka")
            assert lines(to) == expected
        hourly = "--step", "1h", "--family", "user", "--family", "domain", "--of", "panes"
        code, said = backfill(path, tmp_path / "hourly", *hourly)
        assert (code, "there are no panes of domain" in said) == (0, True)
        assert lines(tmp_path / "hourly") < expected
        code, said = backfill(path, tmp_path / "no", "--of", "panes", "--step", "1m")
        assert (code, "expected a multiple of 5m" in said) == (2, True)

    with prometheus(tmp_path, made_into_blocks(tmp_path / "panes-kafka")) as url:
        for at in range(START, END + 1, 30 * MINUTE):
            found = asked(url, 'mail_user_events{window="1h"} > 0', at)
            assert found == recounted(at, HOUR)


def made_into_blocks(text: Path) -> Path:
    """Have promtool read *text*."""
    blocks = text.with_suffix(".blocks")
    tool = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics"]
    done = subprocess.run([*tool, text, blocks], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return blocks


@contextmanager
def prometheus(folder: Path, blocks: Path) -> Iterator[str]:
    """Yield the URL of a Prometheus on *blocks*."""
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    (folder / "prometheus.yml").write_text("{}")
    running = Program(
        "prometheus",
        [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={blocks}",
            "--storage.tsdb.retention.time=10y",
            f"--web.listen-address={address}",
        ],
        folder,
    )
    running.start()
    try:
        wait_until(
            lambda: (fetch(f"http://{address}/-/ready") or (0, ""))[0] == 200,
            "Prometheus is ready",
            within_s=START_S,
        )
        yield f"http://{address}"
    finally:
        running.end()


def asked(url: str, query: str, at_ms: int) -> dict[tuple[str, ...], float]:
    parameters = urllib.parse.urlencode({"query": query, "time": at_ms / 1000})
    answer = fetch(f"{url}/api/v1/query?{parameters}")
    assert answer is not None
    found = json.loads(answer[1])["data"]["result"]
    return {
        (one["metric"]["user"], one["metric"].get("event_type", "")): float(one["value"][1])
        for one in found
    }


def recounted(at_ms: int, window_ms: int) -> dict[tuple[str, ...], float]:
    counts: dict[tuple[str, ...], float] = {}
    for number, time_ms in enumerate(range(START - HOUR, END, 13_000)):
        if at_ms - window_ms <= time_ms < at_ms:
            one = event(number)
            key = str(one.user), str(one.event_type)
            counts[key] = counts.get(key, 0) + 1
    return counts


def test_a_prometheus_that_was_not_there_answers_for_the_past(
    broker: str, database: Database, tmp_path: Path
) -> None:
    with event_log(broker) as log:
        asyncio.run(in_both(log, database))
        path = config(tmp_path, log, database.dsn)
        texts = []
        for source in ("kafka", "postgres"):
            code, said = backfill(path, tmp_path / source, "--source", source)
            assert code == 0, said
            assert f"{len(events())} events counted" in said
            texts.append((tmp_path / source).read_text())
            assert (tmp_path / source).stat().st_mode & 0o777 == 0o600
        assert texts[0] == texts[1]
        code, said = backfill(path, tmp_path / "kafka")
        assert (code, "there already" in said) == (2, True)
        code, said = backfill(path, tmp_path / "ips", "--family", "ip", "--step", "1h")
        assert code == 0
        assert {
            line.split("{")[0]
            for line in (tmp_path / "ips").read_text().splitlines()
            if not line.startswith("#")
        } == {"mail_ip_events"}

    blocks = made_into_blocks(tmp_path / "kafka")
    with prometheus(tmp_path, blocks) as url:
        for at in range(START, END + 1, 30 * MINUTE):
            for window, length in (("5m", STEP), ("1h", HOUR)):
                found = asked(url, f'mail_user_events{{window="{window}"}} > 0', at)
                assert found == recounted(at, length)
        domains = asked(url, 'mail_user_destinations{window="1h"}', END)
        assert set(domains.values()) == {11.0}


def test_what_cannot_be_done_is_said(broker: str, tmp_path: Path, database: Database) -> None:
    with event_log(broker) as log:
        path = config(tmp_path, log, database.dsn)
        assert backfill(path, tmp_path / "a", "--step", "7m")[0] == 2
        assert backfill(path, tmp_path / "a", "--step", "15s")[0] == 2
        code, said = backfill(path, tmp_path / "a", "--source", "postgres")
        assert (code, "PostgreSQL:" in said) == (1, True)
        assert not (tmp_path / "a").exists()
        code, said = backfill(path, tmp_path / "empty")
        assert (code, said.startswith("0 events counted, 0 samples")) == (0, True)
        assert (tmp_path / "empty").read_text() == "# EOF\n"
