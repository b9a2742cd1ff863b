"""/metrics as other programs read it: the golden page, promtool, both formats, and the docs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from pipeline.core.families import KEY_SEPARATOR
from pipeline.core.pane import window_label
from pipeline.export.catalogue import (
    PIPELINE,
    documentation,
    tally_metrics,
    window_metrics,
)
from tests.kit.frames import Row
from tests.kit.programs import program
from tests.kit.worker import NOW, Worker, golden_worker, without_process

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "metrics.prom"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

DECLARED = [*window_metrics(), *tally_metrics(), *PIPELINE]


def lint(page: str) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=page,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def in_openmetrics(page: str) -> Iterator[Metric]:
    yield from openmetrics(page)  # type: ignore[no-untyped-call]  # prometheus_client's own


def by_name(families: list[Metric]) -> dict[str, Metric]:
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def test_the_page_equals_the_golden_file() -> None:
    assert without_process(golden_worker().page()) == GOLDEN.read_text(encoding="utf-8")


def test_promtool_finds_nothing_to_say_about_a_full_page() -> None:
    lint(golden_worker().page())


def test_promtool_finds_nothing_to_say_about_the_page_of_a_worker_that_has_just_started() -> None:
    lint(Worker(0).page())


def test_the_golden_page_shows_every_declared_metric_with_its_type_labels_and_help() -> None:
    shown = {(family.name, family.type): family for family in plain(golden_worker().page())}
    for metric in DECLARED:
        name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
        family = shown[name, metric.kind]
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert family.documentation == metric.help
        assert labels == {frozenset(metric.labels)}, metric.name


def test_every_declared_metric_has_a_name_of_its_own_and_a_plain_help() -> None:
    assert len({metric.name for metric in DECLARED}) == len(DECLARED)
    for metric in DECLARED:
        assert metric.help.endswith(".")
        assert not set(metric.help) & set('"\\\n|'), "it is written without escaping"


@pytest.mark.parametrize(
    ("window_ms", "label"),
    [(10_000, "10s"), (90_000, "90s"), (60_000, "1m"), (3_600_000, "1h"), (86_400_000, "24h")],
)
def test_windows_are_named_in_the_largest_unit_up_to_hours(window_ms: int, label: str) -> None:
    assert window_label(window_ms) == label


def test_the_docs_have_the_generated_tables() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == documentation()


def test_openmetrics_holds_the_same_samples() -> None:
    text = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in plain(without_process(golden_worker().page()))
        for sample in family.samples
    }
    page = golden_worker().page(OPENMETRICS)
    assert page.endswith("# EOF\n")
    assert page.count("# EOF") == 1
    families = by_name(list(in_openmetrics(page)))
    assert families["mail_failures"].type == "gauge"
    assert families["mail_failures_total"].type == "unknown"
    assert families["mail_events"].type == "counter"
    open_text = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        if not family.name.startswith(("process_", "python_"))
        for sample in family.samples
    }
    assert open_text == text


VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=KEY_SEPARATOR), min_size=1),
    st.text('\\"\n{}=, #a\u2028\r\x00', min_size=1),
)


@pytest.mark.parametrize(("accept", "parse"), [("", plain), (OPENMETRICS, in_openmetrics)])
def test_hostile_label_values_come_back_as_they_were(
    accept: str, parse: Callable[[str], Iterable[Metric]]
) -> None:
    @given(st.lists(VALUES, min_size=1, max_size=5, unique=True))
    def round_trip(values: list[str]) -> None:
        worker = Worker()
        worker.fold(user=[Row((value,), "sent", NOW) for value in values])
        counts = [(("zonemta", value, "outbound"), 1) for value in values]
        worker.tally.add("mail_events_total", counts)
        families = {family.name: family for family in parse(worker.page(accept))}
        users = [sample.labels["user"] for sample in families["mail_user_events"].samples]
        types = [sample.labels["event_type"] for sample in families["mail_events"].samples]
        assert sorted(users) == sorted(values * 3)
        assert sorted(types) == sorted(values)

    round_trip()
