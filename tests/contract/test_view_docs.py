"""``docs/view.md`` names every route and metric of the view, and the description fits the routes."""

from __future__ import annotations

import re
from pathlib import Path

from consumers.view.alerts import Alerts
from consumers.view.folding import Folding
from consumers.view.frames import Frames
from consumers.view.http import PAGE
from consumers.view.nodes import Nodes
from consumers.view.openapi import described
from consumers.view.parameters import DIMENSIONS, routes
from consumers.view.recent import Recent
from consumers.view.service import own_metrics
from pipeline.core.pane import HOUR_MS
from pipeline.fold.board import Board
from pipeline.kit.clock import SystemClock

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "view.md").read_text()
WINDOWS = ("1m", "5m", "1h")


def test_every_route_is_documented_and_described() -> None:
    documented = set(re.findall(r"^\| `GET ([^`]+)` \|", DOC, re.MULTILINE))
    known = {route.path for route in routes(WINDOWS)}
    assert documented == known | {"/metrics"}
    assert set(described(routes(WINDOWS), "1")["paths"]) == known


def test_every_dimension_is_documented() -> None:
    (listed,) = re.findall(r"`dimension` is a family: (.*?)\. A key", DOC, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == set(DIMENSIONS)


def test_every_metric_of_the_view_is_documented() -> None:
    clock = SystemClock()
    board = Board((HOUR_MS,))
    frames = Frames("mail.rollups", board.schema, board, clock)
    folding = Folding({}, "mail.deltas", frames, board, clock)
    found = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in own_metrics(board, folding, Recent(), Nodes(), Alerts(), 0)
    }
    assert set(re.findall(r"^\| `(mailstream_view_\w+)", DOC, re.MULTILINE)) == found


def test_the_files_of_the_page_are_those_that_are_served() -> None:
    folder = ROOT / "consumers" / "view" / "page"
    served = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    unserved = {f"vendor/{name}" for name in ("LICENSE", "package.json", "package-lock.json")}
    assert served - unserved == set(PAGE)


def test_scripts_and_styles_say_what_they_are_and_stay_short() -> None:
    for path in (ROOT / "consumers" / "view" / "page").glob("*.*s"):
        text = path.read_text()
        assert text.startswith(("/** ", "/* ")), path
        assert len(text.splitlines()) <= 400, path
        assert "innerHTML" not in text
