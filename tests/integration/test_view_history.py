"""A series that is older than the view's memory comes out of a real PostgreSQL, joined without a seam."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from consumers.view import stored as stored_panes
from consumers.view.alerts import Alerts
from consumers.view.answers import Answers, RefusedError
from consumers.view.history import MOST_STEPS, History
from consumers.view.nodes import Nodes
from consumers.view.recent import Recent
from consumers.view.stored import Stored
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.fold.board import Board
from tests.kit.frames import Row, frame
from tests.kit.postgres import PASSWORD, Database, PostgresServer, postgres_server
from tests.kit.sink import PANES, item, made, stored
from tests.kit.stand import now_ms
from tests.kit.view import assert_described, viewed

pytestmark = pytest.mark.integration

NOW = 1_790_000_123_000
PANE = 5 * MINUTE_MS
USERS = ("ann@example.com", 'b"ob\\@example.com', "täst@example.com", "x" * 5000)


def pane(user: str, event_type: str, start: int, count: int) -> dict[str, Any]:
    return {
        "family": "user",
        "key": [user],
        "event_type": event_type,
        "start": start,
        "length_s": PANE // 1000,
        "count": count,
    }


def put(database: Database, panes: Iterable[dict[str, Any]]) -> None:
    async def store() -> None:
        sink = made(database.dsn, max(NOW, now_ms()))
        await sink.open()
        records = [item(at, json.dumps(one).encode(), PANES) for at, one in enumerate(panes)]
        if records:
            await stored(sink, records)
        await sink.close()

    asyncio.run(store())


def answers_of(rows: Iterable[tuple[str, str, int, int]] = (), windows: Any = None) -> Answers:
    board = Board(windows or (MINUTE_MS, PANE, HOUR_MS, DAY_MS))
    board.open(0)
    board.fold(0, [frame({"user": [Row((u,), kind, at, n) for u, kind, at, n in rows]})], NOW)
    board.complete(0)
    return Answers(board, Recent(), Nodes(), Alerts(), lambda: True)


@asynccontextmanager
async def history(dsn: str, answers: Answers) -> AsyncIterator[History]:
    held = Stored(SecretStr(dsn))
    try:
        yield History(answers, held)
    finally:
        await held.close()


def ask(dsn: str, answers: Answers, *asked: tuple[Any, ...]) -> list[dict[str, Any]]:
    async def all_of() -> list[dict[str, Any]]:
        async with history(dsn, answers) as held:
            return [await held.series("user", *one) for one in asked]

    return asyncio.run(all_of())


@pytest.mark.parametrize("windows", [None, (MINUTE_MS, HOUR_MS)])
def test_both_parts_add_up_to_a_recount_without_a_hole_or_anything_twice(
    database: Database, windows: Any
) -> None:
    """Everything of the last days is in both, so whatever overlaps would show."""
    random.seed(5)
    facts = [
        (
            random.choice(USERS),
            random.choice(("sent", "bounced")),
            random.randrange(NOW - 4 * DAY_MS, NOW),
            n,
        )
        for n in range(1, 600)
    ]
    at_pane = [(u, kind, at - at % PANE, n) for u, kind, at, n in facts]
    put(database, [pane(*one) for one in at_pane])
    answers = answers_of(facts, windows)
    for key in (*((user,) for user in USERS), ()):
        for back, step in ((30 * HOUR_MS, PANE), (3 * DAY_MS, HOUR_MS), (4 * DAY_MS, HOUR_MS)):
            (told,) = ask(database.dsn, answers, (key, NOW - back, None))
            first = told["times"][0] * 1000
            assert (told["step_s"], told["complete"]) == (step // 1000, True)
            assert first == (NOW - back) // step * step
            expected: Counter[tuple[int, str]] = Counter()
            for user, kind, at, n in at_pane:
                if at >= first and key in ((), (user,)):
                    expected[at // step * step, kind] += n
            shown = {
                (start * 1000, kind): count
                for kind, column in told["events"].items()
                for start, count in zip(told["times"], column, strict=True)
                if count
            }
            assert shown == expected
            assert told["times"] == list(range(first // 1000, NOW // 1000 + 1, step // 1000))


def test_a_series_is_bounded_and_begins_with_what_is_stored(database: Database) -> None:
    oldest = NOW // DAY_MS * DAY_MS - 300 * DAY_MS
    put(database, [pane("ann", "sent", oldest, 3)])
    year_71 = 40_000_000_000
    (told, ended) = ask(
        database.dsn,
        answers_of(),
        ((), year_71, None),
        ((), oldest - DAY_MS, oldest + 60 * MINUTE_MS),
    )
    assert (told["step_s"], told["times"][0]) == (DAY_MS // 1000, oldest // 1000)
    assert (sum(told["events"]["sent"]), len(told["times"])) == (3, 301)
    assert (ended["step_s"], len(ended["times"])) == (300, 13)
    database.rows(  # of a clock that was wrong
        "INSERT INTO panes SELECT to_timestamp(%s), length_s, family, key, event_type, count, "
        "recipients, bytes, delivery_ms_sum, delivery_ms_buckets, partial FROM panes",
        year_71 // 1000,
    )
    (told,) = ask(database.dsn, answers_of(), ((), year_71, None))
    assert len(told["times"]) == MOST_STEPS
    assert sum(told["events"]["sent"]) == 3


def test_what_is_not_stored_and_keys_of_strangers_are_refused_or_empty(database: Database) -> None:
    put(database, [])
    with pytest.raises(RefusedError, match="no panes of user") as refused:
        ask(database.dsn, answers_of(), ((), NOW - 3 * DAY_MS, None))
    assert (refused.value.status, refused.value.error) == (404, "not_stored")
    put(database, [pane("ann", "sent", NOW // PANE * PANE - 2 * DAY_MS, 3)])
    hostile = "'; DROP TABLE panes; --"
    (told,) = ask(database.dsn, answers_of(), ((hostile,), NOW - 3 * DAY_MS, None))
    assert told["events"] == {}
    assert database.count("panes") == 1
    with pytest.raises(RefusedError, match="once for each") as refused:
        ask(database.dsn, answers_of(), (("a", "b"), NOW - 3 * DAY_MS, None))
    assert refused.value.status == 400
    with pytest.raises(RefusedError, match="so old"):
        ask(database.dsn, answers_of(), ((), NOW - 9 * DAY_MS, NOW - 8 * DAY_MS))


def test_a_store_that_is_away_or_has_no_tables_is_told_and_what_is_in_memory_goes_on(
    postgres: PostgresServer, database: Database
) -> None:
    with pytest.raises(RefusedError) as refused:  # the sink has not run yet
        ask(database.dsn, answers_of(), ((), NOW - 3 * DAY_MS, None))
    assert (refused.value.status, refused.value.error) == (503, "store_unavailable")
    for dsn in (f"postgresql://mail:{PASSWORD}@127.0.0.1:1/mail", f"{database.dsn}-not-there"):
        with pytest.raises(RefusedError) as refused:
            ask(dsn, answers_of(), ((), NOW - 3 * DAY_MS, None))
        assert refused.value.status == 503
        assert PASSWORD not in refused.value.detail
        (told,) = ask(dsn, answers_of([("ann", "sent", NOW, 1)]), ((), NOW - 3 * HOUR_MS, None))
        assert sum(told["events"]["sent"]) == 1


def test_a_store_that_never_answers_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_panes, "ANSWER_S", 0.5)

    async def asked() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            dsn = f"postgresql://mail@127.0.0.1:{silent.getsockname()[1]}/mail"
            async with history(dsn, answers_of()) as held:
                questions = [held.series("user", (), NOW - 3 * DAY_MS, None) for _ in range(20)]
                told = await asyncio.gather(*questions, return_exceptions=True)
        assert {(one.status, one.error) for one in told if isinstance(one, RefusedError)} == {
            (503, "store_unavailable")
        }
        assert len(told) == len(questions)

    asyncio.run(asked())


def test_a_server_that_was_started_again_is_asked_again(database: Database) -> None:
    put(database, [pane("ann", "sent", NOW // PANE * PANE - 2 * DAY_MS, 3)])

    async def asked() -> None:
        async with history(database.dsn, answers_of()) as held:
            for _ in range(2):
                told = await held.series("user", ("ann",), NOW - 3 * DAY_MS, None)
                assert sum(told["events"]["sent"]) == 3
                database.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'mailstream-view'"
                )

    asyncio.run(asked())


def test_the_service_asks_its_store_says_when_it_is_away_and_asks_again(
    broker: str, tmp_path: Path
) -> None:
    now = now_ms()
    with postgres_server() as server, server.database() as database:
        put(database, [pane("ann", "sent", (now - 2 * DAY_MS) // PANE * PANE, 3)])
        sinks = {"postgres": {"dsn": database.dsn, "listen": "127.0.0.1:0"}}
        with viewed(broker, tmp_path, sinks=sinks) as (_, view):
            series = "/api/v1/series?dimension=user&key=ann&from="
            older, newer = f"{series}{(now - 3 * DAY_MS) // 1000}", f"{series}{now // 1000 - 60}"
            told = httpx.get(view.url + older).json()
            assert (told["events"]["sent"][0], sum(told["events"]["sent"])) == (3, 3)
            assert_described(view, tmp_path, "--include-path", "/api/v1/series")
            server.crash()
            away = httpx.get(view.url + older, timeout=30)
            assert (away.status_code, away.json()["error"]) == (503, "store_unavailable")
            assert httpx.get(view.url + newer).status_code == 200
            assert view.answers("/health")
            server.start()
            assert httpx.get(view.url + older, timeout=30).json()["events"] == told["events"]
            assert PASSWORD not in view.said(100_000)
            assert view.stop() == 0
