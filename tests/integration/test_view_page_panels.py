"""Panels of the page that need more than mail: alerts, routes of probes, one message of a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from playwright.sync_api import Browser

from mailstream.simulation.probes import ProbePlan, probes
from pipeline.core.pane import HOUR_MS, MINUTE_MS
from pipeline.detect.alerts import Alert, Kind, alert_key, encode_alert
from tests.kit.browser import Tab, browser, tab
from tests.kit.http_server import serving
from tests.kit.kafka_admin import admin_of
from tests.kit.processes import wait_until
from tests.kit.raw_log import RawWriter, probe_record
from tests.kit.stand import Stand, now_ms
from tests.kit.view import KEY, View, viewed

pytestmark = pytest.mark.integration

SHOWN_S: Final = 60.0
ID: Final = "18c9aa0012f0004f3a"
HOSTILE: Final = "<img src=x onerror=alert(1)>"
QUEUED: Final = {
    "meta": {"id": ID, "interface": "feeder", "from": "ann@example.com", "to": ["joe@example.net"]},
    "messages": [
        {
            "id": ID,
            "seq": "001",
            "zone": "default",
            "recipient": "joe@example.net",
            "status": "DEFERRED",
            "deferred": {"count": 2, "response": f"450 4.2.1 {HOSTILE} is over quota"},
        }
    ],
}


def queue() -> web.Application:
    """Return a stand-in for ZoneMTA's API that holds one message."""

    async def message(request: web.Request) -> web.StreamResponse:
        if request.match_info["id"] != ID:
            return web.json_response({"error": "not found"}, status=404)
        return web.json_response(QUEUED)

    app = web.Application()
    app.router.add_get("/message/{id}", message)
    return app


@pytest.fixture(scope="module")
def served(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stand, View]]:
    folder = tmp_path_factory.mktemp("panels")
    with serving(queue()) as server:
        sections: dict[str, Any] = {
            "view": {"listen": "127.0.0.1:0", "api_key": KEY},
            "zonemta": {"nodes": [{"name": "mta1", "url": server.url}]},
            "raw": ("raw.probe",),
        }
        with viewed(broker, folder, **sections) as (st, view):
            st.worker()
            yield st, view


@pytest.fixture
def chromium(served: tuple[Stand, View]) -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def opened(served: tuple[Stand, View], chromium: Browser) -> Iterator[Tab]:
    with tab(chromium, served[1].url) as made:
        yield made


async def make_topic(st: Stand) -> None:
    async with admin_of(st.bootstrap) as admin:
        with suppress(TopicAlreadyExistsError):
            await admin.create_topics([NewTopic(st.topic("alerts"), st.partitions, 1)])


async def tell(st: Stand, *alerts: Alert) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=st.bootstrap)
    await producer.start()
    try:
        for alert in alerts:
            await producer.send_and_wait(
                st.topic("alerts"), encode_alert(alert), key=alert_key(alert)
            )
    finally:
        await producer.stop()


def test_routes_of_probes_show_with_their_outcomes(served: tuple[Stand, View]) -> None:
    st, view = served
    now = now_ms()
    plan = ProbePlan(7, now - 40 * MINUTE_MS, 40 * MINUTE_MS)

    async def write() -> None:
        async with RawWriter(st.bootstrap, st.topic("raw.probe"), st.partitions) as writer:
            await writer.write([probe_record(one.record, one.origin, now) for one in probes(plan)])

    with browser() as running, tab(running, view.url) as made:
        made.wait_for_text("#routes-table", "Nothing in the last 5m.")
    asyncio.run(write())
    expected = {(one.record["route"], one.origin) for one in probes(plan)}
    wait_until(
        lambda: (
            {
                (row["key"]["route"], row["key"]["origin"])
                for row in view.ask("top", dimension="route", window="1h", n=1000)["top"]
            }
            == expected
        ),
        "all routes show",
        within_s=SHOWN_S,
    )
    with browser() as running, tab(running, view.url) as made:
        made.page.select_option("#window", "24h")
        made.wait_for_text("#routes-table", "inbox")
        made.wait_for_text("#routes-table", min(expected)[0])
        made.page.locator("#routes-table button").first.click()
        made.wait_for_text("#detail-title", "route ")
        made.page.locator("#detail-chart").wait_for()
        assert made.complaints == []


def test_alerts_come_by_themselves_open_ones_first_with_their_evidence(
    served: tuple[Stand, View],
) -> None:
    st, view = served
    since = now_ms() - 10 * 24 * HOUR_MS  # an episode may have begun long ago
    hijacked = Alert(
        Kind.HIJACKED_ACCOUNT,
        ("ann@example.com",),
        since,
        None,
        {"score": 7.5, "figures": {"recipients": 4200}, "destinations": [HOSTILE, "b.example"]},
    )
    blocked = Alert(Kind.IP_BLOCKED, ("203.0.113.7", "google"), since + 1, since + 2, {})
    with browser() as running, tab(running, view.url) as made:
        made.wait_for_text("#alerts-list", "No alerts.")
    asyncio.run(make_topic(st))
    asyncio.run(tell(st, blocked, hijacked))
    with browser() as running, tab(running, view.url) as made:
        page = made.page
        made.wait_for_text("#alerts-list", "ann@example.com")
        made.wait_for_text("#alerts-note", "1 open")
        rows = page.locator("#alerts-list tbody tr").all_inner_texts()
        assert ["open" in row for row in rows] == [True, False]
        assert "203.0.113.7 · google" in rows[1]
        page.locator("#alerts-list summary").first.focus()
        page.keyboard.press("Enter")
        made.wait_for_text("#alerts-list details[open]", "4,200")
        made.wait_for_text("#alerts-list details[open]", HOSTILE)
        before = page.get_attribute("html", "data-updated")
        page.wait_for_function(
            "before => document.documentElement.dataset.updated > before", arg=before
        )
        assert page.locator("#alerts-list details[open]").count() == 1
        assert page.locator("#alerts-list img").count() == 0
        assert made.complaints == []
    asyncio.run(tell(st, Alert(hijacked.kind, hijacked.key, since, since + HOUR_MS)))
    wait_until(
        lambda: all(one["until"] for one in view.ask("alerts")["alerts"]),
        "the episode ends",
        within_s=SHOWN_S,
    )
    assert view.value("mailstream_view_unusable_records_total") == 0


def test_a_message_is_looked_up_by_keyboard_and_the_key_is_kept_nowhere(opened: Tab) -> None:
    page = opened.page
    page.get_by_label("Queue id").focus()
    page.keyboard.type(ID)
    page.keyboard.press("Tab")
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    opened.wait_for_text("#message-body", "DEFERRED")
    opened.wait_for_text("#message-body", f"{HOSTILE} is over quota")
    assert page.locator("#message-body img").count() == 0
    assert "joe@" not in opened.text("#message-body")
    assert opened.complaints == []
    stored = (
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert KEY not in page.evaluate(stored)


@pytest.mark.parametrize(
    ("queue_id", "key", "told"),
    [
        (ID, "wrong", "Expected the key of the view"),
        (ID, "schlüssel €", "characters that no key has"),
        (ID[:-1] + "b", KEY, "No queue holds it"),
        ("../metrics", KEY, "queue_id"),
    ],
)
def test_why_a_message_cannot_be_looked_up_is_said(
    opened: Tab, queue_id: str, key: str, told: str
) -> None:
    opened.page.fill("#message-id", queue_id)
    opened.page.fill("#message-key", key)
    opened.page.get_by_role("button", name="Look up").click()
    opened.wait_for_text("#message-body .error", told)
