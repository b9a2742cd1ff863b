"""``docs/probe.md`` has the metrics as they are declared, and the sample and the examples are read."""

from __future__ import annotations

from pathlib import Path

from producers.sources.probe.config_read import read_config
from producers.sources.probe.series_doc import rows

ROOT = Path(__file__).parents[2]
MARK = "<!-- made from producers/sources/probe/series.py -->\n"


def test_the_table_of_metrics_is_made_from_their_declarations() -> None:
    assert (ROOT / "docs" / "probe.md").read_text().partition(MARK)[2] == "\n".join(rows()) + "\n"


def test_the_file_of_docker_compose_is_one_of_the_probe() -> None:
    path = ROOT / "deploy" / "docker" / "probe.yaml"
    config = read_config(path, {"OWN_PASS": "one", "OTHER_PASS": "two"})
    assert config.routes
    assert config.warnings == ()
    assert config.options.listen_addr is None, "as mailstream.yaml says"
