"""The programs of ``docs/examples`` do what docs/consumers.md says of them."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pipeline.core.event import MailEvent
from tests.kit.event_log import EventLog, event_log
from tests.kit.processes import ROOT, Program, wait_until

pytestmark = pytest.mark.integration

EXAMPLES = ROOT / "docs" / "examples"
WITHIN_S = 60.0


@pytest.fixture
def log(broker: str) -> Iterator[EventLog]:
    with event_log(broker) as made:
        yield made


def program(name: str, log: EventLog, folder: Path, *arguments: str | Path) -> Program:
    config = folder / "mailstream.yaml"
    config.write_text(
        json.dumps({"topics": {"prefix": log.settings.topics.prefix, "partitions": log.partitions}})
    )
    command: list[str | Path] = ["env", f"MAILSTREAM_CONFIG={config}", sys.executable]
    return Program(name, [*command, EXAMPLES / name, log.bootstrap, *arguments], folder)


def mail(number: int, kind: str) -> MailEvent:
    return MailEvent(
        event_id=f"e{number}",
        source="zonemta",
        event_type=kind,
        user="alice@example.com",
        to_domain="gmail.com",
        provider="google",
        bounce_class="mailbox_full" if kind == "bounced" else None,
        response_message="552 5.2.2 full" if kind == "bounced" else None,
    )


@contextmanager
def started(*programs: Program) -> Iterator[None]:
    try:
        for one in programs:
            one.start()
        yield
    finally:
        for one in programs:
            one.end()


def said(running: Program, what: str) -> bool:
    assert running.running, running.said()
    return what in running.said()


def test_every_example_is_in_the_document_and_tested_here() -> None:
    named = set(re.findall(r"examples/(\w+\.py)", (ROOT / "docs" / "consumers.md").read_text()))
    tested = {"bounces.py", "store.py", "failures.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == named == tested


def test_bounces_are_printed_as_they_happen(log: EventLog, tmp_path: Path) -> None:
    running = program("bounces.py", log, tmp_path)
    numbers = iter(range(10_000))

    def printed() -> bool:
        asyncio.run(log.write([mail(next(numbers), kind) for kind in ("bounced", "delivered")]))
        return said(running, "alice@example.com gmail.com 552 5.2.2 full\n")

    with started(running):
        wait_until(printed, "a bounce is printed", within_s=WITHIN_S)
        assert "gmail.com -" not in running.said()


def test_events_are_stored_once_by_processes_that_share_the_work(
    log: EventLog, tmp_path: Path
) -> None:
    file = tmp_path / "events.sqlite"
    asyncio.run(log.write([mail(number, "delivered") for number in range(200)]))
    first, second = (program("store.py", log, tmp_path, file) for _ in range(2))

    def stored() -> int:
        if not file.exists():
            return 0
        with closing(sqlite3.connect(file, timeout=30)) as database:
            if not database.execute("SELECT 1 FROM sqlite_master").fetchall():
                return 0
            return int(database.execute("SELECT count(*) FROM events").fetchone()[0])

    with started(first):
        wait_until(lambda: stored() == 200, "all are stored", within_s=WITHIN_S)
        with started(second):
            asyncio.run(log.write([mail(number, "delivered") for number in range(200, 300)]))
            wait_until(lambda: stored() == 300, "the rest is stored", within_s=WITHIN_S)
            assert first.running, first.said()
            assert second.running, second.said()


def test_failures_of_the_last_hour_are_counted(log: EventLog, tmp_path: Path) -> None:
    kinds = ["bounced", "delivered", "bounced", "bounced"]
    asyncio.run(log.write([mail(number, kind) for number, kind in enumerate(kinds)]))
    running = program("failures.py", log, tmp_path)
    with started(running):
        wait_until(
            lambda: said(running, "google mailbox_full 3\n"), "they are counted", within_s=WITHIN_S
        )
