"""The dashboards in ``deploy/grafana``: what the generator gives, in the form that Grafana imports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mailstream.dashboards.__main__ import GRAFANA, RULES, files, main
from mailstream.dashboards.boards import BOARDS
from mailstream.dashboards.model import Board, Kind

PROBES = [board for board in BOARDS if "mail-e2e" in board.tags]


def loaded(board: Board) -> Any:
    return json.loads((GRAFANA / f"{board.name}.json").read_text())


def test_the_files_are_what_the_generator_gives() -> None:
    written = {path.name: path.read_text() for path in GRAFANA.iterdir()}
    assert written == files(), "python -m mailstream.dashboards"


def test_the_five_dashboards_of_the_probes_are_there() -> None:
    names = ("all-in-one", "overview", "route-detail", "errors", "slo")
    assert [board.name for board in PROBES] == [f"mail-e2e-{name}" for name in names]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_panel_asks_the_chosen_data_source_and_has_its_place(board: Board) -> None:
    found = loaded(board)
    variables = {one["name"]: one for one in found["templating"]["list"]}
    assert variables["DS_PROMETHEUS"]["type"] == "datasource"
    assert variables["DS_PROMETHEUS"]["query"] == "prometheus"
    panels = [one for one in found["panels"] if one["type"] != "row"]
    assert {one["datasource"]["uid"] for one in panels} == {"${DS_PROMETHEUS}"}
    assert [one["title"] for one in panels] == [panel.title for panel in board.panels()]
    numbers = [one["id"] for one in found["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for one in found["panels"]:
        place = one["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_variable_is_used_and_every_used_one_is_there(board: Board) -> None:
    texts = [query.expr for panel in board.panels() for query in panel.queries]
    used = {name for text in texts for name in re.findall(r"\$\{?(\w+)", text)}
    mine = {one.name for one in board.variables}
    assert used - {"__rate_interval", "__range"} == mine


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_table_names_its_columns(board: Board) -> None:
    for panel in board.panels():
        assert panel.queries
        if panel.kind is Kind.TABLE:
            assert len({query.name for query in panel.queries} - {""}) == len(panel.queries)


def test_the_variables_of_the_probes_dashboards_are_those_of_the_exporter() -> None:
    by_name = {board.name: {one.name: one for one in board.variables} for board in PROBES}
    route = by_name["mail-e2e-route-detail"]["route"]
    assert route.many
    slo = by_name["mail-e2e-slo"]
    assert slo["window"].choices[0] == "1h"
    assert slo["window"].choices[-1] == "30d"
    assert slo["slo"].choices == ("0.99", "0.995", "0.999")
    assert by_name["mail-e2e-all-in-one"]["stale_minutes"].default == "15"
    light = loaded(PROBES[0])["panels"][1]["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert {number: one["text"] for number, one in light.items()} == {
        "2": "OK",
        "1": "STALE",
        "0": "FAIL",
    }


@pytest.mark.parametrize("prefix", ["acme_", "acme_e2e_exporter_"])
def test_another_prefix_is_in_all_queries_and_rules(prefix: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--prefix", prefix, str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {*files(), RULES.name}
    for path in tmp_path.iterdir():
        assert "mail_e2e_exporter_" not in path.read_text()
    assert "acme_e2e_exporter_receive_success == 0" in (tmp_path / RULES.name).read_text()
    assert "acme_e2e_exporter_roundtrip_seconds" in (tmp_path / "mail-e2e-slo.json").read_text()


def test_another_prefix_never_overwrites_what_is_checked_in() -> None:
    done = CliRunner().invoke(main, ["--prefix", "acme_"])
    assert done.exit_code == 2
    assert "name a folder" in done.output


def test_the_document_names_every_dashboard_with_its_variables() -> None:
    text = (GRAFANA.parents[1] / "docs" / "dashboards.md").read_text()
    told = {
        name: set(re.findall(r"`(\w+)`", variables))
        for name, variables in re.findall(
            r"^\| `([\w-]+)\.json` \|.*\| (.*) \|$", text, re.MULTILINE
        )
    }
    assert told == {board.name: {one.name for one in board.variables} for board in BOARDS}
