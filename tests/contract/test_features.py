"""``docs/features.md``: every row is there once, and names what exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from pipeline.kit.settings_doc import options
from producers.sources.cpanel.metrics import PollerMetrics

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "features.md").read_text()
SOURCES = (ROOT / "docs" / "sources.md").read_text()
SYSTEMS = {"CP": 24, "ZM": 32, "GE": 13, "MX": 23, "E2": 48, "DB": 6, "AL": 12}
NOT_YET = "not yet: "
FLAGS = ("--endpoint", "--apikey", "--listen", "--web.config.file", "--interval", "--timeout")


class Row(NamedTuple):
    """One feature."""

    id: str
    what: str
    where: tuple[str, ...]
    tests: tuple[str, ...]


def rows() -> list[Row]:
    found = []
    for line in DOC.splitlines():
        if re.match(rf"\| ({'|'.join(SYSTEMS)})-\d+ \|", line):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert len(cells) == 4, line
            where, tests = (tuple(re.findall(r"`([^`]+)`", cell)) for cell in cells[2:])
            found.append(Row(cells[0], cells[1], where, tests))
    return found


def is_test(name: str) -> bool:
    """Tell whether *name*, a file and a test in it, exists."""
    path, _, title = name.partition("::")
    if path.endswith(".js"):
        text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        return f"test('{title}'" in text
    file = ROOT / "tests" / path
    text = file.read_text() if file.is_file() else ""
    return re.search(rf"^(?:async )?def {re.escape(title)}\(", text, re.MULTILINE) is not None


def test_every_row_is_there_once_and_in_order() -> None:
    expected = [f"{system}-{n}" for system, most in SYSTEMS.items() for n in range(1, most + 1)]
    assert [row.id for row in rows()] == expected


def test_a_row_names_a_module_or_document_and_tests_that_exist() -> None:
    for row in rows():
        for path in row.where:
            assert (ROOT / path).is_file(), f"{row.id}: {path}"
        for name in row.tests:
            assert is_test(name), f"{row.id}: {name}"


def test_a_row_that_is_there_says_where_and_one_that_is_code_is_shown() -> None:
    for row in rows():
        if row.what.startswith(NOT_YET):
            assert not row.where, row.id
            assert not row.tests, row.id
        else:
            assert len(row.where) == 1, row.id
            assert row.tests or row.where[0].startswith("docs/"), row.id


def test_traps_name_rows_that_are_there() -> None:
    there = {row.id for row in rows() if not row.what.startswith(NOT_YET)}
    named = set(re.findall(rf"\b(?:{'|'.join(SYSTEMS)})-\d+\b", DOC.partition("## Traps")[2]))
    assert named
    assert named <= there


def test_a_name_that_does_not_exist_is_no_test() -> None:
    assert not is_test("unit/test_monitor.py::test_nothing")
    assert not is_test("unit/test_nothing.py::test_nothing")
    assert not is_test("plugins/zonemta/test/events.test.js::nothing")


def test_the_exporter_s_flags_are_keys_of_ours() -> None:
    keys = {option.key for option in options()}
    told = {
        flag: set(re.findall(r"`([^`]+)`", cell))
        for flag, cell in re.findall(r"^\| `(--[\w.]+)` \| (.*) \|$", SOURCES, re.MULTILINE)
    }
    assert set(told) == set(FLAGS)
    for named in told.values():
        assert named
        assert {key for key in named if not re.match(r"\d", key)} <= keys


def test_every_metric_of_the_poller_is_documented() -> None:
    registry = CollectorRegistry()
    PollerMetrics(registry, ["web1"])
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
    }
    shared = {name for name in names if name.startswith("mailstream_component_")}
    assert len(names - shared) > 12
    missing = {name for name in names - shared if f"`{name}`" not in SOURCES}
    assert not missing
