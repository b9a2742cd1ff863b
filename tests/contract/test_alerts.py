"""Alert rules: promtool's judgement, their unit tests, and rules of our own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.programs import program

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"
FILES = sorted(RULES.glob("*.yml"))
TESTS = sorted(RULES.glob("tests/*.yml"))


def rules(path: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load(path.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_promtool_accepts_the_rules(path: Path) -> None:
    promtool("check", "rules", "--lint-fatal", path)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_fire_when_they_should_and_only_then(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_alert_fires_in_a_test_of_its_own_file(path: Path) -> None:
    alerts = {rule["alert"] for rule in rules(path) if "alert" in rule}
    cases = yaml.safe_load((path.parent / "tests" / path.name).read_text())["tests"]
    fired = {
        one["alertname"]
        for case in cases
        for one in case.get("alert_rule_test", ())
        if one["exp_alerts"]
    }
    assert fired == alerts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_alert_stays_silent_in_a_test_of_its_own_file(path: Path) -> None:
    alerts = {rule["alert"] for rule in rules(path) if "alert" in rule}
    cases = yaml.safe_load((path.parent / "tests" / path.name).read_text())["tests"]
    silent = {
        one["alertname"]
        for case in cases
        for one in case.get("alert_rule_test", ())
        if not one["exp_alerts"]
    }
    assert silent == alerts


def test_no_alert_about_windows_trusts_incomplete_ones() -> None:
    for path in FILES:
        for rule in rules(path):
            if "alert" in rule and re.search(r'window="|:sum(1h|5m)', rule["expr"]):
                assert rule["expr"].endswith("and on () mailstream_windows_complete:min == 1")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_alert_has_a_severity_and_says_what_happened(path: Path) -> None:
    for rule in rules(path):
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert set(rule["annotations"]) == {"summary", "description"}


def test_the_document_names_every_alert() -> None:
    text = (RULES.parents[2] / "docs" / "dashboards.md").read_text()
    for path in FILES:
        (line,) = [one for one in text.splitlines() if one.startswith(f"| `{path.name}` |")]
        told = re.findall(r"`(\w+)`", line.split("|")[2])
        assert told == [rule["alert"] for rule in rules(path) if "alert" in rule]
