"""Every query of every dashboard and rule, asked of a real Prometheus that scrapes real pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailstream.dashboards.boards import BOARDS
from mailstream.dashboards.model import Board
from tests.kit.board_pages import pages
from tests.kit.processes import START_S, wait_until
from tests.kit.prometheus import Prometheus, scraping

pytestmark = pytest.mark.integration

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"
METRIC = re.compile(r"(?<![\w:])(?:mail|mailstream|email)_\w+(?![\w:])")
GRAFANAS = {"__rate_interval": "30s", "__range": "1h", "__interval": "30s"}
"""Variables that Grafana sets by itself."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with scraping(pages(), tmp_path_factory.mktemp("prometheus"), RULES) as found:
        yield found


def filled_in(expr: str, board: Board) -> str:
    """Return *expr* as Grafana asks it when the dashboard has just been opened."""
    chosen = {one.name: ".*" if one.many else one.default for one in board.variables}
    for name, value in (GRAFANAS | chosen).items():
        expr = re.sub(rf"\$\{{?{name}\b\}}?", value, expr)
    assert "$" not in expr, expr
    return expr


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_query_parses_and_finds_something(board: Board, prometheus: Prometheus) -> None:
    empty = [
        (panel.title, query.expr)
        for panel in board.panels()
        for query in panel.queries
        if not prometheus.values(filled_in(query.expr, board))
    ]
    assert not empty


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_variable_finds_its_values(board: Board, prometheus: Prometheus) -> None:
    for variable in board.variables:
        if variable.query:
            found = prometheus.labels(filled_in(variable.query, board))
            assert found
            assert variable.many or variable.default in found


def test_the_traffic_light_shows_what_the_routes_do(prometheus: Prometheus) -> None:
    (board,) = [one for one in BOARDS if one.name == "mail-e2e-overview"]
    light = next(iter(board.panels())).queries[0].expr
    assert sorted(prometheus.values(filled_in(light, board))) == [0, 2, 2]
    stale = filled_in(light, board).replace("60 * 15", "0")
    assert sorted(prometheus.values(stale)) == [0, 1, 1]


def test_prometheus_takes_every_rule_and_evaluates_it(prometheus: Prometheus) -> None:
    groups = prometheus.ask("rules")["groups"]
    assert {Path(group["file"]).name for group in groups} == {
        path.name for path in RULES.glob("*.yml")
    }
    assert [rule for group in groups for rule in group["rules"] if rule["health"] == "err"] == []


def test_every_metric_in_a_rule_is_one_of_ours_and_every_record_has_a_value(
    prometheus: Prometheus,
) -> None:
    shown = set(prometheus.ask("label/__name__/values"))
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    named = {name for rule in rules for name in METRIC.findall(rule["query"])}
    assert named
    assert named <= shown
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert recorded
    wait_until(
        lambda: all(prometheus.values(name) for name in recorded),
        "every record has a value",
        within_s=START_S,
    )


def test_a_route_that_fails_is_about_to_alert_and_the_others_are_not(
    prometheus: Prometheus,
) -> None:
    alerts = prometheus.ask("alerts")["alerts"]
    routes = [
        one["labels"]["route"] for one in alerts if one["labels"]["alertname"] == "MailRouteFailed"
    ]
    assert routes == ["own-to-gmx"]
