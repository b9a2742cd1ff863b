"""``docs/bounces.md`` says what the rule files hold and what the program answers."""

from __future__ import annotations

import re
import shlex

import pytest

from mailstream import cli
from pipeline.enrich.bounce_rules import Category, RuleEntry, Scope
from tests.kit.bounce_tables import DOCUMENT, written

TEXT = DOCUMENT.read_text("utf-8")


def test_its_tables_are_those_of_the_rules() -> None:
    assert written(TEXT) == TEXT


def test_every_category_scope_and_key_of_a_rule_is_explained() -> None:
    cells = set(re.findall(r"(?<=\| )[a-z-]+(?= \|)", TEXT))
    assert {*Category, *Scope} <= cells
    assert set(Category) <= set(re.findall(r"`([a-z]+)`", TEXT))
    keys = set(re.findall(r"^([a-z]+) = ", TEXT, re.MULTILINE))
    assert keys == set(RuleEntry.__struct_encode_fields__)


def test_the_command_that_it_shows_answers_what_it_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    [(command, answer)] = re.findall(r"^\$ mailstream (.*)\n(\{.*\})$", TEXT, re.MULTILINE)
    assert cli.call(shlex.split(command)) == 0
    assert capsys.readouterr().out == f"{answer}\n"
