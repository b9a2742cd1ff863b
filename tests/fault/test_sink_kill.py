"""Sinks are killed and frozen, and their database crashes, while events flow: each is stored once."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from pipeline.core.event import MailEvent
from tests.kit.event_log import EventLog, event_log
from tests.kit.postgres import PASSWORD, Database, PostgresServer, postgres_server
from tests.kit.processes import Program, wait_until
from tests.kit.sink import CONSTRAINT, REFUSED, SinkProcess, event
from tests.kit.stand import now_ms

pytestmark = [pytest.mark.integration, pytest.mark.fault]

WITHIN_S = 120.0
STEP = 4000
POISON = b'{"event_id": "poison", "source": "zonemta", "event_type": "sent"}'


class Scene:
    """Kafka, a database, sinks, and how many events were written."""

    def __init__(self, log: EventLog, server: PostgresServer, database: Database) -> None:
        self.log, self.server, self.database = log, server, database
        self.written = 0
        self.begun_ms = now_ms()

    def write(self) -> None:
        """Write some more events."""
        first, self.written = self.written, self.written + STEP
        asyncio.run(self.log.write(map(self.event, range(first, self.written))))

    def event(self, number: int) -> MailEvent:
        return event(number, self.begun_ms - number * 997)

    def moves(self) -> None:
        """Wait until sinks have stored something that was not there before."""
        before = self.database.count("email_events")
        assert before < self.written
        wait_until(
            lambda: self.database.count("email_events") > before,
            "something is stored",
            within_s=WITHIN_S,
            every_s=0.002,
        )

    def all_stored(self) -> bool:
        return self.database.count("email_events") >= self.written

    def check(self) -> None:
        """Wait for all events, then recount."""
        wait_until(self.all_stored, "all is stored", within_s=WITHIN_S)
        found = Counter(one for (one,) in self.database.rows("SELECT event_id FROM email_events"))
        assert found == Counter(f"e{number}" for number in range(self.written))
        key = "event_type, mta_node, \"user\", (time AT TIME ZONE 'UTC')::date::text"
        query = f"SELECT {key}, sum(events), sum(bytes) FROM email_events_daily GROUP BY 1, 2, 3, 4"
        sums: Counter[tuple[str, ...]] = Counter()
        sizes: Counter[tuple[str, ...]] = Counter()
        for one in map(self.event, range(self.written)):
            at = tuple(map(str, (one.event_type, one.mta_node, one.user, one.timestamp)))
            at = (*at[:3], at[3][:10])
            sums[at] += 1
            sizes[at] += one.size_bytes or 0
        rows = self.database.rows(query)
        assert {tuple(row[:4]): (int(row[4]), int(row[5])) for row in rows} == {
            at: (count, sizes[at]) for at, count in sums.items()
        }


@contextmanager
def scene(broker: str) -> Iterator[Scene]:
    with (
        event_log(broker, partitions=3) as log,
        postgres_server() as server,
        server.database() as database,
    ):
        yield Scene(log, server, database)


@contextmanager
def sinks(made: Scene, folder: Path, count: int) -> Iterator[list[SinkProcess]]:
    programs = [
        SinkProcess(made.log, made.database.dsn, folder / f"sink{number}")
        for number in range(count)
    ]
    try:
        for program in programs:
            program.start()
        yield programs
        said = "".join(program.said(1 << 20) for program in programs)
        assert PASSWORD not in said
    finally:
        for program in programs:
            program.end()


def test_killed_sinks_and_a_crashed_database_store_each_event_once(
    broker: str, tmp_path: Path
) -> None:
    with scene(broker) as made, sinks(made, tmp_path, 1) as (sink,):
        for fault in (sink.kill, made.server.crash, sink.kill, made.server.stop):
            made.write()
            made.moves()
            fault()
            made.write()
            if sink.running:
                wait_until(partial(waits, sink), "it says that it waits", within_s=WITHIN_S)
                made.server.start()
            else:
                sink.start()
        made.check()
        wait_until(lambda: not waits(sink), "it is well again", within_s=WITHIN_S)
        assert sink.stop() == 0


def waits(sink: SinkProcess) -> bool:
    answer = sink.get("/health")
    return answer is not None and answer[0] == 503 and "PostgreSQL" in answer[1]


def test_two_sinks_one_of_them_frozen_and_back_store_each_event_once(
    broker: str, tmp_path: Path
) -> None:
    with scene(broker) as made, sinks(made, tmp_path, 2) as programs:
        for program in itertools.islice(itertools.cycle(programs), 4):
            made.write()
            made.moves()
            freeze(program)
            made.write()
            # the other takes all partitions over, once the group has given the frozen one up
            wait_until(made.all_stored, "the other stores all", within_s=WITHIN_S)
            made.write()
            program.thaw()
        made.check()
        assert [program.stop() for program in programs] == [0, 0]


def freeze(program: Program) -> None:
    program.freeze()
    wait_until(lambda: program.frozen, "it is frozen", within_s=WITHIN_S)


def test_what_cannot_be_stored_is_put_aside_once_and_stops_nothing(
    broker: str, tmp_path: Path
) -> None:
    with scene(broker) as made, sinks(made, tmp_path, 1) as (sink,):
        made.write()
        made.moves()
        made.database.rows(CONSTRAINT)
        asyncio.run(write_poison(made.log))
        made.write()
        sink.kill()
        sink.start()
        made.check()
        wait_until(
            lambda: made.database.count("mailstream_rejects") == 3, "all aside", within_s=WITHIN_S
        )
        rows = made.database.rows(
            "SELECT reason, value FROM mailstream_rejects ORDER BY reason, value"
        )
        assert [(reason, bytes(value)) for reason, value in rows] == [
            ("malformed", b"\xff\x00{"),
            ("missing_field", POISON),
            ("refused_by_store", refused()),
        ]


def refused() -> bytes:
    more = f', "timestamp": "2026-01-01T00:00:00.000Z", "to_domain": "{REFUSED}"}}'
    return POISON[:-1] + more.encode()


async def write_poison(log: EventLog) -> None:
    async with log.writer() as writer:
        for number, value in enumerate((b"\xff\x00{", POISON, refused())):
            await (await writer.write_value(f"p{number}", value))
