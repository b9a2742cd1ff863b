"""The probes' dashboards over a real Prometheus that scrapes a real probe before real mail servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailstream.dashboards.boards import BOARDS
from tests.integration.test_dashboards import filled_in
from tests.kit.mail_target import MailTarget, mail_target
from tests.kit.probe_process import Probe, alone, content
from tests.kit.processes import START_S, wait_until
from tests.kit.prometheus import scraping

pytestmark = pytest.mark.integration

NOTHING_TO_SHOW = {"Queue depth", "Asked to come again later", "MX records"}
"""Panels about what these servers do not have: a ZoneMTA, greylisting, a public domain."""


@pytest.fixture
def target() -> Iterator[MailTarget]:
    with mail_target() as target:
        yield target


def test_every_panel_shows_something_of_a_real_probe(tmp_path: Path, target: MailTarget) -> None:
    queries = {
        filled_in(query.expr, board)
        for board in BOARDS
        if "mail-e2e" in board.tags
        for panel in board.panels()
        if panel.title not in NOTHING_TO_SHOW
        for query in panel.queries
    }
    probe = Probe(tmp_path, alone(tmp_path), content(target))
    try:
        probe.listening()
        probe.rounds(2, "inbox", route="a-to-b")
        probe.rounds(1, "junk", route="to-junk")
        probe.rounds(2, "send_failed", route="locked-out")
        with scraping({"mailstream-probe": probe.page}, tmp_path) as prometheus:
            wait_until(
                lambda: not [expr for expr in queries if not prometheus.values(expr)],
                "every query finds something",
                within_s=START_S,
                every_s=2,
            )
        assert probe.stop() == 0
    finally:
        probe.end()
