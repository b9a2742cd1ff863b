"""The page of the view in a real browser: what a person sees, also when things go wrong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Route

from mailstream.ports import free_port
from pipeline.core.timestamp import rfc3339
from tests.kit.browser import Tab, browser, tab
from tests.kit.processes import wait_until
from tests.kit.raw_log import RawWriter, raw_record
from tests.kit.stand import Stand, now_ms
from tests.kit.view import View, viewed

pytestmark = pytest.mark.integration

SHOWN_S = 60.0
USERS = 20_000
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
SECTIONS = ("volumes", "top", "failures", "routes", "nodes", "alerts", "live")
_queue = itertools.count()


def event(user: str = "ann@example.com", **fields: Any) -> dict[str, Any]:
    return {
        "timestamp": rfc3339(now_ms()),
        "event_type": "delivered",
        "from_user": user,
        "to_domain": "example.net",
        "sending_ip": "203.0.113.7",
        "mta_node": "mta1",
        "queue_id": f"q{next(_queue)}",
        **fields,
    }


def post(st: Stand, *events: dict[str, Any]) -> None:
    url = f"http://{st.ingest().address()}/api/v1/email-events/batch"
    assert httpx.post(url, json={"events": list(events)}).status_code == 202


@pytest.fixture(scope="module")
def served(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stand, View]]:
    """Yield a view at a port that stays, of 20,000 users and one that is up to no good."""
    port = free_port("127.0.0.1")
    section = {"listen": f"127.0.0.1:{port}"}
    with viewed(broker, tmp_path_factory.mktemp("page"), view=section) as (st, view):
        st.worker()
        write(st, [event(f"user{number}@example.com") for number in range(USERS)])
        wait_until(
            lambda: view.value("mailstream_view_events_total") == USERS,
            "the events of all users are read",
            within_s=SHOWN_S,
        )
        refused = {"event_type": "bounced", "response_message": f"550 5.7.1 {HOSTILE}"}
        post(st, event(), event(**refused), event(f'"{HOSTILE[:20]}"@example.com', **refused))
        wait_until(
            lambda: view.ask("top", dimension="user", window="1h")["keys"] > USERS,
            "all users are counted",
            within_s=SHOWN_S,
        )
        yield st, view


def write(st: Stand, events: list[dict[str, Any]]) -> None:
    async def all_of() -> None:
        async with RawWriter(st.bootstrap, st.topic("raw.zonemta"), st.partitions) as writer:
            now = now_ms()
            await writer.write(
                [raw_record({**one, "event_id": one["queue_id"]}, "zonemta", now) for one in events]
            )

    asyncio.run(all_of())


@pytest.fixture
def chromium(served: tuple[Stand, View]) -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def opened(served: tuple[Stand, View], chromium: Browser) -> Iterator[Tab]:
    with tab(chromium, served[1].url) as made:
        yield made


def figure(opened: Tab, name: str) -> int:
    for part in opened.page.locator("#figures span").all_inner_texts():
        count, _, what = part.partition(" ")
        if what == name:
            return int(count.replace(",", ""))
    return 0


def test_it_shows_everything_and_asks_nobody_else(served: tuple[Stand, View], opened: Tab) -> None:
    page = opened.page
    opened.wait_for_text("#status", "Complete and current")
    assert figure(opened, "delivered") > USERS
    opened.wait_for_text("#top-note", "20,00")
    assert page.locator("#top-table tbody tr").count() == 20
    assert opened.painted("#volumes-chart canvas", "delivered") > 0
    opened.wait_for_text("#providers", "other")
    opened.wait_for_text("#sources-table", "sending")
    opened.wait_for_text("#live-table", "ann@example.com")
    assert opened.hosts == {served[1].address()}
    assert opened.complaints == []


def test_what_strangers_wrote_is_text(opened: Tab) -> None:
    opened.page.select_option("#event-type", "bounced")
    opened.wait_for_text("#top-table", HOSTILE)
    assert opened.page.locator("#top-table img, #top-table script").count() == 0
    assert opened.complaints == []


def test_numbers_and_live_events_follow_what_comes(served: tuple[Stand, View], opened: Tab) -> None:
    before = figure(opened, "delivered")
    post(served[0], *[event("late@example.com") for _ in range(7)])
    opened.wait_for_text("#live-table", "late@example.com")
    wait_until(
        lambda: figure(opened, "delivered") == before + 7,
        "the figure has grown",
        within_s=SHOWN_S,
    )
    opened.page.click("#pause")
    assert opened.page.get_attribute("#pause", "aria-pressed") == "true"
    assert opened.complaints == []


def test_a_restart_of_the_view_shows_and_passes(served: tuple[Stand, View], opened: Tab) -> None:
    st, view = served
    view.kill()
    opened.wait_for_text("#status", "No answer from the view")
    assert opened.page.locator("#top-table tbody tr").count() == 20
    opened.wait_for_text("#live-note", "Interrupted")
    view.start_and_listen()
    opened.wait_for_text("#status", "Complete and current")
    post(st, event("back@example.com"))
    opened.wait_for_text("#live-table", "back@example.com")
    assert figure(opened, "delivered") > USERS


def test_what_is_pointed_at_in_the_chart_is_told(opened: Tab) -> None:
    legend = "#volumes-chart .legend"
    opened.wait_for_text(legend, "Last 60 minutes:")
    whole = opened.text(legend)
    chart = opened.page.locator("#volumes-chart .u-over")
    shape = chart.bounding_box()
    assert shape is not None
    chart.hover(position={"x": shape["width"] / 4, "y": shape["height"] / 2})
    opened.wait_for_text(legend, "delivered 0")  # that long ago there was nothing
    assert "Last" not in opened.text(legend)
    opened.page.locator("h1").hover()
    opened.wait_for_text(legend, "Last 60 minutes:")
    assert opened.text(legend).split()[:4] == whole.split()[:4]
    assert opened.complaints == []


def test_a_key_is_looked_into_by_keyboard_alone(opened: Tab) -> None:
    page = opened.page
    page.select_option("#dimension", "destination")
    opened.wait_for_text("#top-table", "example.net")
    page.locator("#top-table button").first.focus()
    page.keyboard.press("Enter")
    opened.wait_for_text("#detail-title", "destination example.net")
    opened.wait_for_text("#detail-body", "delivery p95")
    assert opened.painted("#detail-chart canvas", "delivered") > 0
    assert (
        page.evaluate_handle("document.activeElement").get_property("id").json_value() == "detail"
    )
    page.keyboard.press("Escape")
    page.locator("#detail").wait_for(state="hidden")
    assert page.locator("#top-table button").first.evaluate("one => one === document.activeElement")
    assert opened.complaints == []


def test_everything_has_a_name_for_those_who_cannot_see(opened: Tab) -> None:
    page = opened.page
    for section in SECTIONS:
        label = page.get_attribute(f"#{section}", "aria-labelledby")
        assert page.get_by_role("region", name=opened.text(f"#{label}"), exact=True).count() == 1
    assert page.locator("table").count() == page.locator("table > caption").count() + len(
        page.locator("details table").all()
    )
    for control in page.locator("select").all():
        assert control.evaluate("one => one.labels.length") == 1
    assert page.get_by_role("status").count() == 1
    page.get_by_text("As a table").click()
    assert page.locator("#volumes-chart details table tbody tr").count() == 60
    page.keyboard.press("Home")
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_light_or_dark_as_the_system_or_the_reader_wants(
    served: tuple[Stand, View], chromium: Browser, dark: bool
) -> None:
    with tab(chromium, served[1].url, dark=dark) as opened:
        page = opened.page

        def is_dark() -> bool:
            colour = page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor")
            return sum(map(int, colour[4:-1].split(","))) < 300

        assert is_dark() == dark
        page.select_option("#theme", "light" if dark else "dark")
        assert is_dark() != dark
        page.reload()
        page.wait_for_selector("html[data-updated]")
        assert is_dark() != dark
        assert opened.complaints == []


def test_a_part_that_fails_says_so_and_the_others_go_on(
    served: tuple[Stand, View], opened: Tab
) -> None:
    def broken(route: Route) -> None:
        route.fulfill(status=500, json={"error": "internal_error", "detail": "It broke."})

    opened.page.route("**/api/v1/nodes", broken)
    opened.wait_for_text("#nodes-table", "Cannot be shown: It broke.")
    opened.wait_for_text("#status", "Complete and current")
    opened.page.unroute("**/api/v1/nodes")
    opened.wait_for_text("#nodes-table", "No node has been heard of")


def test_an_empty_stream_is_told_as_such(broker: str, tmp_path: Path) -> None:
    with (
        viewed(broker, tmp_path) as (_, view),
        browser() as running,
        tab(running, view.url) as made,
    ):
        made.wait_for_text("#status", "Complete and current")
        for box, text in {
            "#figures": "No mail in the last 5m.",
            "#volumes-chart": "No events in this time.",
            "#top-table": "Nothing in the last 5m.",
            "#providers": "No mail to any provider.",
            "#classes": "No failures.",
            "#routes-table": "",
            "#sources-table": "No events have been read yet.",
            "#nodes-table": "No node has been heard of",
            "#alerts-list": "No alerts.",
            "#live-table": "Nothing yet",
        }.items():
            made.wait_for_text(box, text)
        assert made.complaints == []
