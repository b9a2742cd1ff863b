"""What a worker publishes on ``mail.panes`` gives the backfill that its events give."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from pipeline.core.timestamp import rfc3339
from tests.kit.processes import ROOT, mailstream, wait_until
from tests.kit.raw_log import RawWriter, raw_record
from tests.kit.stand import Stand, now_ms, stand
from tests.kit.traffic import Shape, Varied

pytestmark = pytest.mark.integration

MINUTE, HOUR = 60_000, 3_600_000
STEP = 5 * MINUTE
COUNT = 6000
FAMILIES = ("user", "ip", "ip_provider")
DISTINCT = ("mail_user_destinations", "mail_user_client_ips")
WITHIN_S = 240.0


async def write(st: Stand, end: int) -> None:
    """Write events of two hours, received as they happened."""
    traffic = Varied(seed=7, now_ms=end, spread_ms=2 * HOUR, shape=Shape(users=20, ips=4))
    events = [traffic.zonemta() for _ in range(COUNT)]
    async with RawWriter(st.bootstrap, st.raw[0], st.partitions) as writer:
        records = []
        for number, event in enumerate(events):
            event.setdefault("event_id", f"{event['queue_id']}.{event['seq']}")
            received = end - 2 * HOUR + number * 2 * HOUR // COUNT
            records.append(raw_record(event, "zonemta", received))
        await writer.write(records)


def backfill(st: Stand, to: Path, of: str, end: int) -> set[str]:
    span = "--from", rfc3339(end - 2 * HOUR), "--until", rfc3339(end), "--to-file", to
    chosen = [part for family in FAMILIES for part in ("--family", family)]
    command = mailstream("backfill", "--config", st.config, "--of", of, *span, *chosen)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = to.read_text().splitlines()
    return {line for line in lines if not line.startswith(("#", *DISTINCT))}


def test_published_panes_give_what_their_events_give(broker: str, tmp_path: Path) -> None:
    end = now_ms() // STEP * STEP - 10 * MINUTE
    with stand(broker, tmp_path) as st:
        asyncio.run(write(st, end))
        st.worker(1)
        st.wait_until_caught_up()
        # What came late to a closed pane is written every 5 min, and by a new worker at once.
        st.worker(1).kill()
        st.worker(1)
        expected = backfill(st, tmp_path / "events", "events", end - STEP)
        assert len(expected) > 1000
        turns = iter(range(10_000))

        def equal() -> bool:
            return backfill(st, tmp_path / f"panes{next(turns)}", "panes", end - STEP) == expected

        wait_until(equal, "all panes are published", within_s=WITHIN_S, every_s=5.0)
