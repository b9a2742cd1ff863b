"""The cPanel poller as a process: real Kafka, and servers on a socket."""

from __future__ import annotations

import asyncio
import json
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.kit.cpanel_process import (
    INTERVAL,
    assert_each_row_once,
    counted,
    fresh_row,
    poller,
    raw_rows,
    section,
)
from tests.kit.kafka_read import read_topics
from tests.kit.processes import wait_until
from tests.kit.programs import program
from tests.kit.scrape import Page
from tests.kit.stand import Stand, stand
from tests.kit.whm import SAMPLES, STATS, Whm, page, row_like, serving

pytestmark = pytest.mark.integration

MANY = 100
ROUNDS = 4
BATCH = 50


def lint(text: str) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rows_of_a_server_are_counted_by_the_worker_and_nothing_secret_is_anywhere(
    broker: str, tmp_path: Path
) -> None:
    whm = Whm(user="web1")
    rows = [fresh_row(number, recipient="hidden@example.net") for number in range(40)]
    whm.add(*rows, fresh_row(99, type="inprogress"))
    with (
        serving(whm) as url,
        stand(broker, tmp_path, cpanel=section(url, [whm], interval=INTERVAL)) as st,
    ):
        service = poller(st)
        try:
            worker = st.worker()
            wait_until(
                lambda: (
                    Page([worker.metrics() or ""]).total(
                        "mail_user_events", window="1h", user="exampleco@web1"
                    )
                    == 40
                ),
                "the worker counts them",
                within_s=90,
            )
            wait_until(
                lambda: "email_user_stats{" in (service.get("/metrics") or (0, ""))[1],
                "the figures are shown",
                within_s=30,
            )
            metrics = (service.get("/metrics") or (0, ""))[1]
            assert service.answers("/health")
        finally:
            service.end()
        events = st.events()
        topics = [st.topic(name) for name in ("raw.cpanel", "events", "checkpoints", "dead")]
        stored = asyncio.run(read_topics(broker, topics, st.partitions))
    assert {event["origin"] for event in events} == {"web1"}
    lint(metrics)
    everything = "".join(
        [service.said(1 << 20), metrics, *(str(one) for one in stored), json.dumps(events)]
    )
    assert whm.token not in everything
    assert "hidden@" not in everything


def test_a_hundred_servers_are_polled_by_one_process_whatever_a_few_of_them_do(
    broker: str, tmp_path: Path
) -> None:
    servers = [Whm(user=f"web{number}") for number in range(MANY)]
    for whm in servers:
        whm.add(*(fresh_row(number) for number in range(10)))
    stuck, lost, *healthy = servers
    stuck.held.clear()
    login = json.loads((SAMPLES / "errors.json").read_text())["login_page"]
    lost.mood = lambda _function: page(login)
    with (
        serving(*servers) as url,
        stand(broker, tmp_path, cpanel=section(url, servers, interval="5s", timeout="20s")) as st,
    ):
        service = poller(st)
        try:
            wait_until(
                lambda: min(whm.count(STATS) for whm in healthy) >= ROUNDS,
                "each healthy server was polled several times",
                within_s=120,
            )
            rounds = [whm.count(STATS) for whm in healthy]
            answer = service.get("/metrics")
            assert service.stop() == 0
        finally:
            service.end()
        assert max(rounds) - min(rounds) <= 2
        assert stuck.count() <= 2
        assert {whm.most_at_once for whm in servers} == {1}
        shown = Page([answer[1] if answer else ""])
        assert shown.total("mailstream_up") == len(healthy)
        assert shown.total("mailstream_cpanel_errors_total", origin="web1", reason="not_json") > 0
        assert_each_row_once(st, {whm.user: 10 for whm in healthy})


def test_a_poller_that_was_away_goes_on_where_it_stood(broker: str, tmp_path: Path) -> None:
    whm = Whm(user="web1")
    with (
        serving(whm) as url,
        stand(broker, tmp_path, cpanel=section(url, [whm], interval=INTERVAL)) as st,
    ):
        for turn in range(3):
            whm.add(*(fresh_row(BATCH * turn + place) for place in range(BATCH)))
            service = poller(st)
            wait_until(partial(_there, st, BATCH * (turn + 1)), "rows are there", within_s=60)
            polls = whm.count(STATS) + 2
            wait_until(partial(_asked, whm, polls), "it polls on", within_s=60)
            assert service.stop() == 0
        assert_each_row_once(st, {"web1": 3 * BATCH})


def test_of_two_processes_for_one_server_only_one_writes(broker: str, tmp_path: Path) -> None:
    whm = Whm(user="web1")
    whm.add(row_like("success", **_now()))
    with (
        serving(whm) as url,
        stand(broker, tmp_path, cpanel=section(url, [whm], interval=INTERVAL)) as st,
    ):
        first = poller(st)
        wait_until(lambda: counted(raw_rows(st))["web1"] == 1, "the first writes", within_s=60)
        second = poller(st)
        try:
            wait_until(
                lambda: Page([(second.get("/metrics") or (0, ""))[1]]).total("mailstream_up"),
                "the second polls",
                within_s=60,
            )
            whm.add(*(fresh_row(number) for number in range(20)))
            wait_until(
                lambda: "another process polls this WHM server" in first.said(1 << 20),
                "the first steps back",
                within_s=60,
            )
            wait_until(lambda: counted(raw_rows(st))["web1"] >= 21, "rows are there", within_s=60)
        finally:
            first.end()
            second.end()
        assert_each_row_once(st, {"web1": 21})


def _there(st: Stand, rows: int) -> bool:
    return counted(raw_rows(st))["web1"] >= rows


def _asked(whm: Whm, polls: int) -> bool:
    return whm.count(STATS) >= polls


def _now() -> dict[str, int]:
    row = fresh_row(0)
    return {name: row[name] for name in ("sendunixtime", "actionunixtime")}
