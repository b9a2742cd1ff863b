"""The privacy page: its example is a configuration, and its sources are those that there are."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.kit.settings import PrivacySources
from pipeline.kit.settings_load import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    match = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    (tmp_path / "hash.key").write_text("a key of some length, made up")
    config = tmp_path / "mailstream.yaml"
    config.write_text(match[1].replace("/run/secrets/hash.key", str(tmp_path / "hash.key")))
    privacy = load(config, {}).privacy
    assert privacy.of_source("cpanel").pseudonymise == ()
    assert privacy.of_source("zonemta").pseudonymise == ("client_ip",)
    assert privacy.of_source("gelf").pseudonymise == ("user", "client_ip")
    assert not privacy.of_source("gelf").keep_recipients


def test_every_source_is_named() -> None:
    assert all(name in PAGE for name in PrivacySources.model_fields)
