"""The pictures of the view in ``docs/images``: ``python -m tests.kit.screenshots`` makes them anew."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from mailstream.simulation.probes import ProbePlan, probes
from mailstream.simulation.traffic import traffic
from pipeline.core.pane import MINUTE_MS
from pipeline.detect.alerts import Alert, Kind, alert_key, encode_alert
from producers.privacy import Privacy
from tests.kit.broker import session_broker
from tests.kit.browser import browser, tab
from tests.kit.processes import ROOT, wait_until
from tests.kit.raw_log import RawRecord, RawWriter, probe_record, raw_record
from tests.kit.stand import Stand, now_ms
from tests.kit.view import SHOWN_S, viewed

IMAGES: Final = ROOT / "docs" / "images"
BACK_MS: Final = 55 * MINUTE_MS
SEED: Final = 4
PRIVACY: Final = Privacy(b"pictures")
RAW: Final = ("raw.zonemta", "raw.haraka", "raw.probe")
HEIGHT: Final = 1060


def alerts(now: int) -> Sequence[Alert]:
    """Return an episode that goes on, and one that ended."""
    hijacked = {
        "score": 4.2,
        "signals": ["recipients", "destinations"],
        "figures": {"recipients": 1260, "destinations": 183},
        "limits": {"recipients": 300, "destinations": 50},
        "client_ips": ["198.51.100.23"],
        "auth_method": "login",
    }
    blocked = {"block_ratio": 0.41, "classes": {"ip_blocked": 37, "rate_limited": 4}}
    return (
        Alert(Kind.HIJACKED_ACCOUNT, ("sales@shop.example",), now - 10 * MINUTE_MS, None, hijacked),
        Alert(
            Kind.IP_BLOCKED,
            ("203.0.113.7", "microsoft"),
            now - 50 * MINUTE_MS,
            now - 20 * MINUTE_MS,
            blocked,
        ),
    )


async def fill(st: Stand) -> None:
    """Write an hour of mail, of probes and of alerts."""
    now = now_ms()
    start = now - BACK_MS
    plan = ProbePlan(SEED, start, BACK_MS)
    mail = [
        (one.source, raw_record(redacted(one.event), one.source, one.at_ms))
        for one in traffic(SEED, start, rate=15.0, duration_ms=BACK_MS)
        if not one.repeat and "event_id" in one.event
    ]
    for name in ("zonemta", "haraka"):
        await write(st, name, [record for source, record in mail if source == name])
    await write(st, "probe", [probe_record(one.record, one.origin, now) for one in probes(plan)])
    async with AIOKafkaProducer(bootstrap_servers=st.bootstrap) as producer:
        for one in alerts(now):
            await producer.send_and_wait(st.topic("alerts"), encode_alert(one), key=alert_key(one))


def redacted(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with its reply as a producer writes it: no address in it is to be read."""
    reply = event.get("response_message")
    return {**event, "response_message": PRIVACY.redact(reply)} if reply else {**event}


async def write(st: Stand, source: str, records: Sequence[RawRecord]) -> None:
    """Write records of a source."""
    async with RawWriter(st.bootstrap, st.topic(f"raw.{source}"), st.partitions) as writer:
        await writer.write(records)


def picture(url: str) -> None:
    """Write the pictures of the page in light and in dark colours, and of the alerts."""
    with browser() as running:
        for dark, colours in ((False, "light"), (True, "dark")):
            with tab(running, url, dark=dark) as made:
                page = made.page
                page.set_viewport_size({"width": 1280, "height": HEIGHT})
                made.wait_for_text("#status", "Complete and current")
                page.select_option("#window", "1h")
                page.select_option("#rows", "10")
                made.wait_for_text("#top-table caption", "last 1h")
                made.wait_for_text("#alerts-note", "open")
                made.wait_for_text("#routes-table", "inbox")
                page.screenshot(path=IMAGES / f"view-{colours}.png")
                page.locator("#alerts-list summary").first.click()
                page.locator("#alerts").screenshot(path=IMAGES / f"view-alerts-{colours}.png")


def main() -> None:
    """Start everything, show it, and end it."""
    with (
        tempfile.TemporaryDirectory(prefix="mailstream-pictures-") as folder,
        session_broker() as bootstrap,
        viewed(bootstrap, Path(folder), raw=RAW) as (st, view),
    ):
        asyncio.run(fill(st))
        st.worker()
        st.wait_until_ready()
        st.wait_until_caught_up()
        wait_until(
            lambda: (
                len(view.ask("alerts")["alerts"]) >= len(alerts(0))
            ),  # the detector's beside ours
            "the alerts are read",
            within_s=SHOWN_S,
        )
        picture(view.url)


if __name__ == "__main__":
    main()
