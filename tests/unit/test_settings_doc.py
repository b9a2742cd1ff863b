"""The settings as people read them say what the models say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.kit.settings import Settings
from pipeline.kit.settings_doc import OPTIONAL, effective, example, option_table, options
from pipeline.kit.settings_load import load

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_documented_options_are_those_of_the_models() -> None:
    begin = "<!-- options: made by pipeline.kit.settings_doc.option_table -->\n"
    shown = DOCS.read_text().partition(begin)[2].partition("<!-- end of options -->")[0]
    assert shown == option_table()


def test_the_example_loads_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mailstream.yaml"
    defaults = load(None, {})
    file.write_text(example())
    assert load(file, {}) == defaults
    assert load(file, {"MAILSTREAM_HASH_KEY": "k"}).privacy.hash_key is not None


def test_the_example_explains_every_key() -> None:
    lines = example().splitlines()
    absent = tuple(f"{option.key}." for option in options() if option.type == OPTIONAL)
    for option in options():
        name = option.key.rpartition(".")[2]
        assert option.description
        if "[]" not in option.key and not option.key.startswith(absent):
            (place,) = (
                i
                for i, line in enumerate(lines)
                if line.strip().startswith(f"{name}:") and _section(lines, i) == option.key
            )
            assert lines[place - 1].strip().startswith("#")
    assert max(map(len, lines)) <= 100


def _section(lines: list[str], place: int) -> str:
    """Return the dotted key of the line at *place*."""
    key = lines[place].strip().partition(":")[0]
    indent = len(lines[place]) - len(lines[place].lstrip())
    for line in reversed(lines[:place]):
        depth = len(line) - len(line.lstrip())
        if depth < indent and line.lstrip()[:1].isalpha():
            key, indent = f"{line.strip().partition(':')[0]}.{key}", depth
    return key


def test_the_effective_settings_are_yaml_and_show_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "mailstream.yaml"
    file.write_text(
        "{metrics: {username: joe, password: hunter2}, privacy: {hash_key: hunter3},"
        " ingest: {api_keys: [hunter4]}}"
    )
    text = effective(load(file, {}))
    assert "hunter" not in text
    shown = yaml.safe_load(text)
    assert shown["metrics"]["password"] == "**********"
    assert shown["pipeline"]["windows"] == ["1m", "5m", "1h", "1d"]
    assert list(shown) == list(Settings.model_fields)
