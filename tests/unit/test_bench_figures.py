"""What a bench reports, and when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import figures
from bench.figures import Figure


@pytest.mark.parametrize(
    ("at_most", "value", "clears", "holds"),
    [
        (False, 100.0, True, True),
        (False, 99.0, False, True),
        (False, 70.0, False, True),
        (False, 69.0, False, False),
        (True, 100.0, True, True),
        (True, 101.0, False, True),
        (True, 142.0, False, True),
        (True, 143.0, False, False),
    ],
)
def test_a_figure_fails_below_seventy_percent_of_the_record(
    at_most: bool, value: float, clears: bool, holds: bool
) -> None:
    figure = Figure("b", value, "s", bar=100.0, at_most=at_most)
    assert (figure.clears(), figure.holds(100.0)) == (clears, holds)


def test_the_newest_record_of_this_machine_counts(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert figures.recorded("b", path) is None
    figures.record([Figure("b", 1.0, "s"), Figure("b", 2.0, "s"), Figure("c", 3.0, "s")], path)
    elsewhere = Figure("b", 9.0, "s").line() | {"machine": "elsewhere"}
    with path.open("a") as records:
        records.write(json.dumps(elsewhere) + "\n")
    assert figures.recorded("b", path) == 2.0


def test_the_table_names_what_was_missed() -> None:
    text, holds = figures.table(
        [
            Figure("no record of this", 5.0, "s", bar=3.0, at_most=True),
            Figure("nor this", 12345.0, "rows/s", bar=1.0),
        ]
    )
    assert holds
    assert "MISSED" in text.splitlines()[1]
    assert "12,345" in text.splitlines()[2]
    assert "cleared" in text.splitlines()[2]
