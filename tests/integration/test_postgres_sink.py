"""The sink's work on a real PostgreSQL: rows, claims, the history, partitions, letting go."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import psycopg
import pytest

from consumers.postgres.rows import TOPICS
from consumers.postgres.tables import EVENT_FIELDS
from consumers.postgres.upkeep import let_go, sum_up
from consumers.sinks.base import MovedError, Refused
from consumers.sinks.postgres import PostgresSink
from pipeline.core.errors import ConfigError, Reason, TransientError
from pipeline.core.event import MailEvent
from pipeline.core.pane import DAY_MS, HOUR_MS
from pipeline.core.timestamp import epoch_ms, rfc3339
from tests.kit.event_log import encode
from tests.kit.postgres import PASSWORD, Database, PostgresServer
from tests.kit.sink import (
    CONSTRAINT,
    EVENTS,
    NODES,
    NOW_MS,
    PANES,
    REFUSED,
    event,
    item,
    items,
    made,
    observed,
    settings,
    stored,
)

pytestmark = pytest.mark.integration


def test_every_field_of_an_event_is_in_its_column(database: Database) -> None:
    async def store() -> None:
        sink = made(database.dsn)
        await sink.open()
        await stored(sink, items([full]))
        await sink.close()

    kinds: dict[str, Any] = {
        "dict": {"dns": 1.5},
        "int": 7,
        "float": 0.5,
        "bool": True,
        "str": "täxt\t\\n\u2028",
    }
    full = MailEvent(
        **{
            name: next(one for kind, one in kinds.items() if kind in str(hint))
            for name, hint in MailEvent.__annotations__.items()
        }
    )
    full.timestamp, full.received = rfc3339(NOW_MS), rfc3339(NOW_MS + 1)
    asyncio.run(store())
    columns = ", ".join(f'"{name}"' for name in EVENT_FIELDS)
    ((time, *values),) = database.rows(f"SELECT time::text, {columns} FROM email_events")
    assert time == database.value("SELECT %s::timestamptz::text", full.timestamp)
    for name, value in zip(EVENT_FIELDS, values, strict=True):
        if name not in {"received", "event_type"}:
            assert value == getattr(full, name, None), name
    fields = set(MailEvent.__struct_fields__) - {*EVENT_FIELDS, "timestamp"}
    extra = database.value("SELECT extra FROM email_events")
    assert set(extra or {}) == fields


def test_panes_observations_and_heartbeats_have_their_tables(database: Database) -> None:
    pane = {
        "family": "user", "key": ["alice@example.com"], "event_type": "sent", "length_s": 300,
        "count": 3, "recipients": 4, "bytes": 500, "delivery_ms_sum": 1.5,
        "delivery_ms_buckets": [1, 2], "partial": False,
    }  # fmt: skip
    panes = [
        item(at, json.dumps(pane | {"start": start}).encode(), PANES)
        for at, start in enumerate((rfc3339(NOW_MS), NOW_MS, NOW_MS / 1000))
    ]
    beat = {
        "node": "mta1", "role": "zonemta", "version": "1", "boot_id": "b", "last_seq": 5,
        "buffered": 1, "dropped_total": 0,
    }  # fmt: skip
    headers = (("feed", b"heartbeat"), ("received", str(NOW_MS).encode()))
    nodes = [
        observed(0, "redis", {'mail_redis_keys{db="0",name="a\\"b"}': 3, "mail_redis_up": 1}),
        observed(1, "postfix", {"mail_postfix_queue": 2.5}),
        item(2, json.dumps(beat).encode(), NODES, headers=headers),
        item(3, json.dumps(beat).encode(), NODES),
    ]

    async def store() -> None:
        sink = made(database.dsn)
        await sink.open()
        await stored(sink, panes)
        await stored(sink, nodes)
        await sink.close()

    asyncio.run(store())
    assert database.rows("SELECT key, count, recipients, bytes, partial FROM panes_hourly") == [
        (["alice@example.com"], 9, 12, 1500, False)
    ]
    assert database.rows("SELECT metric, labels, value FROM metrics_redis ORDER BY metric") == [
        ("mail_redis_keys", {"db": "0", "name": 'a"b'}, 3.0),
        ("mail_redis_up", {}, 1.0),
    ]
    assert database.rows("SELECT what, metric, value FROM metrics_other") == [
        ("postfix", "mail_postfix_queue", 2.5)
    ]
    assert database.rows("SELECT node, last_seq FROM heartbeats") == [("mta1", 5)]
    assert database.rows("SELECT reason FROM mailstream_rejects") == [("missing_header",)]
    assert database.value("SELECT most FROM metrics_redis_hourly WHERE labels->>'db' = '0'") == 3.0


def test_a_sink_that_was_overtaken_stores_nothing(database: Database) -> None:
    async def race() -> None:
        first, second = made(database.dsn), made(database.dsn)
        await asyncio.gather(first.open(), second.open())
        for sink in (first, second):
            assert await sink.positions(EVENTS, [0, 1]) == {}
        records = items(event(number) for number in range(20))
        await first.write(EVENTS, records[:10])
        with pytest.raises(MovedError):
            await second.write(EVENTS, records[:10])
        assert await second.positions(EVENTS, [0]) == {0: 10}
        await second.write(EVENTS, records[10:])
        with pytest.raises(MovedError):
            await first.write(EVENTS, records[10:])
        both = await asyncio.gather(
            *(sink.positions(EVENTS, [0]) for sink in (first, second)),
        )
        assert both == [{0: 20}, {0: 20}]
        # At the same moment: one waits for the other, and is told.
        outcomes = await asyncio.gather(
            *(sink.write(EVENTS, items([event(20)], first=20)) for sink in (first, second)),
            return_exceptions=True,
        )
        assert sorted(type(one).__name__ for one in outcomes) == ["MovedError", "Written"]
        await first.close()
        await second.close()

    asyncio.run(race())
    ids = Counter(one for (one,) in database.rows("SELECT event_id FROM email_events"))
    assert ids == Counter(f"e{number}" for number in range(21))


def test_refused_records_are_found_among_good_ones(database: Database) -> None:
    bad: dict[int, tuple[bytes, str]] = {
        3: (b"{1", "malformed"),
        7: (encode(event(7, user="a\0b")), "invalid_field"),
        8: (encode(event(8, attempt=1 << 40)), "invalid_field"),
        500: (
            encode(event(500, size_bytes=(1 << 63) - 1, to_domain=REFUSED)),
            "refused_by_store",
        ),
        998: (b'{"event_id":"x"}', "missing_field"),
        999: (encode(event(999, timestamp="yesterday")), "invalid_field"),
    }
    records = [
        item(number, bad[number][0] if number in bad else encode(event(number)))
        for number in range(1000)
    ]

    async def store() -> Any:
        sink = made(database.dsn)
        await sink.open()
        database.rows(CONSTRAINT)
        await sink.positions(EVENTS, [0])
        written = await sink.write(EVENTS, records)
        await sink.close()
        return written

    written = asyncio.run(store())
    assert written.rejected == {
        Reason.MALFORMED: 1, Reason.INVALID_FIELD: 3, Refused.STORE: 1, Reason.MISSING_FIELD: 1,
    }  # fmt: skip
    assert written.rows == {"email_events": 994}
    assert database.value("SELECT count(*) FROM email_events") == 994
    found = database.rows('SELECT "offset", value, reason FROM mailstream_rejects ORDER BY 1')
    assert {at: (bytes(value), why) for at, value, why in found} == bad
    assert database.value("SELECT next_offset FROM mailstream_offsets") == 1000


def test_json_that_postgresql_does_not_take_is_put_aside(database: Database) -> None:
    pane = b'{"family":"f","key":[%b],"event_type":"sent","start":1e9,"length_s":300,"count":1}'
    keys = (b'"a"', b'"\\u0000"', b"[" * 800 + b"]" * 800, b"1e400000", b'"b"', b'"\\ud800"')

    async def store() -> Any:
        sink = made(database.dsn)
        await sink.open()
        records = [item(at, pane % key, PANES) for at, key in enumerate(keys)]
        await sink.positions(PANES, [0])
        written = await sink.write(PANES, records)
        await sink.close()
        return written

    written = asyncio.run(store())
    stored_rows = database.value("SELECT count(*) FROM panes")
    assert stored_rows + database.value("SELECT count(*) FROM mailstream_rejects") == len(keys)
    assert sum(written.rejected.values()) == len(keys) - stored_rows
    assert {("a",), ("b",)} <= set(database.rows("SELECT key->>0 FROM panes"))


def recount(events: Iterable[MailEvent], length_ms: int) -> dict[tuple[Any, ...], tuple[int, int]]:
    sums: dict[tuple[Any, ...], list[int]] = {}
    for one in events:
        at = epoch_ms(one.timestamp or "")
        key = (rfc3339(at - at % length_ms), one.event_type, one.user, one.mta_node)
        both = sums.setdefault(key, [0, 0])
        both[0] += 1
        both[1] += one.size_bytes or 0
    return {key: (count, size) for key, (count, size) in sums.items()}


def shown(database: Database, view: str) -> dict[tuple[Any, ...], tuple[int, int]]:
    rows = database.rows(
        "SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), event_type,"
        f' "user", mta_node, sum(events), sum(bytes) FROM {view} GROUP BY 1, 2, 3, 4'
    )
    return {tuple(row[:4]): (int(row[4]), int(row[5])) for row in rows}


def test_the_history_is_exact_at_all_times_and_outlives_the_rows(database: Database) -> None:
    drawn = random.Random(11)
    events: list[MailEvent] = []

    def check() -> None:
        assert shown(database, "email_events_hourly") == recount(events, HOUR_MS)
        assert shown(database, "email_events_daily") == recount(events, DAY_MS)

    async def live() -> None:
        sink = made(database.dsn)
        await sink.open()
        for step in range(4):
            batch = [
                event(
                    len(events) + at,
                    NOW_MS - drawn.randrange(9 * DAY_MS),
                    size_bytes=drawn.randrange(99),
                )
                for at in range(300)
            ]
            await stored(sink, items(batch, first=len(events)))
            events.extend(batch)
            await asyncio.to_thread(check)
            async with await psycopg.AsyncConnection.connect(
                database.dsn, autocommit=True
            ) as other:
                if step % 2:
                    assert await sum_up(other, NOW_MS, quiet_s=0) > 0
                    await asyncio.to_thread(check)
                if step > 2:
                    kept = settings(database.dsn, retention={"events": "7d"}).sinks.postgres
                    assert kept is not None
                    await let_go(other, kept.retention, NOW_MS)
                    await asyncio.to_thread(check)
        await sink.close()

    asyncio.run(live())
    assert database.value("SELECT count(*) FROM email_events") < len(events)
    oldest = database.value("SELECT min(time) FROM email_events").timestamp() * 1000
    assert oldest >= (NOW_MS - 7 * DAY_MS) // DAY_MS * DAY_MS
    assert not database.rows(
        "SELECT FROM mailstream_changed WHERE start < (SELECT kept_from FROM mailstream_kept "
        "WHERE name = 'email_events') AND step = 'hour'"
    )


def test_rows_older_than_what_is_kept_change_no_history(database: Database) -> None:
    old_ms = NOW_MS - 8 * DAY_MS

    async def live() -> None:
        sink = made(database.dsn, retention={"events": "7d"})
        await sink.open()
        await stored(sink, items([event(0, old_ms), event(1)]))
        await sink.upkeep()
        await stored(sink, items([event(2, old_ms)], first=2))
        await sink.close()

    asyncio.run(live())
    assert database.value("SELECT sum(events) FROM email_events_daily") == 2
    ids = database.rows("SELECT event_id FROM email_events ORDER BY 1")
    assert ids == [("e1",), ("e2",)]


def test_rows_of_a_wrong_clock_wait_in_the_rest_until_their_time_comes(database: Database) -> None:
    ahead_ms = NOW_MS + 40 * DAY_MS

    async def live() -> None:
        sink = made(database.dsn)
        await sink.open()
        await stored(sink, items([event(0, ahead_ms), event(1, 40_000_000_000), event(2)]))
        await sink.close()
        assert database.count("email_events_rest") == 2
        later = made(database.dsn, ahead_ms)
        await later.open()
        await later.upkeep()
        await later.close()

    asyncio.run(live())
    assert database.count("email_events_rest") == 0
    assert database.rows("SELECT event_id FROM email_events ORDER BY 1") == [("e0",), ("e2",)]


def test_old_partitions_go_and_new_ones_are_there_ahead(database: Database) -> None:
    async def live(now_ms: int) -> None:
        sink = made(database.dsn, now_ms, retention={"events": "7d", "metrics": "7d"})
        await sink.open()
        await stored(sink, items([event(now_ms % 1000, now_ms)], first=now_ms // DAY_MS))
        first = now_ms // DAY_MS
        await stored(sink, [observed(first, "system", {"mail_x": 1}, now_ms)])
        await sink.upkeep()
        await sink.close()

    for day in range(30):
        asyncio.run(live(NOW_MS + day * DAY_MS))
    assert database.count("email_events") == 8
    parts = database.rows(
        "SELECT c.relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
        "WHERE inhparent = 'email_events'::regclass ORDER BY 1"
    )
    assert len(parts) == 8 + 2 + 1
    assert database.value("SELECT sum(events) FROM email_events_daily") == 30


def test_the_same_again_after_an_unknown_outcome_stores_once(
    database: Database, postgres: PostgresServer
) -> None:
    async def live() -> None:
        sink = made(database.dsn)
        await sink.open()
        await stored(sink, items(event(number) for number in range(5)))
        database.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'mailstream-%%' AND datname = current_database()".replace(
                "%%", "%"
            )
        )
        with pytest.raises(TransientError):
            await sink.write(EVENTS, items([event(5)], first=5))
        assert await sink.positions(EVENTS, [0]) == {0: 5}
        await sink.write(EVENTS, items([event(5)], first=5))
        await sink.close()

    asyncio.run(live())
    assert database.count("email_events") == 6


def test_a_database_that_refuses_us_is_told_without_the_password(postgres: PostgresServer) -> None:
    wrong = postgres.dsn("postgres").replace(PASSWORD, "other-secret")

    async def open_it(sink: PostgresSink) -> None:
        await sink.open()

    with pytest.raises(TransientError) as refused:
        asyncio.run(open_it(made(wrong)))
    assert "password authentication failed" in str(refused.value)
    assert "other-secret" not in str(refused.value)
    with pytest.raises(ConfigError) as unusable:
        made("host=127.0.0.1 other-secret")
    assert "other-secret" not in str(unusable.value)


def test_every_topic_has_rows() -> None:
    assert set(TOPICS) == {"events", "panes", "raw.node"}
