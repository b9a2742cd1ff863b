"""Writes the dashboards and the probes' alert rules: ``python -m mailstream.dashboards [FOLDER]``.

Without a prefix of one's own it renews ``deploy/grafana``.  With ``--prefix``, the probe's
``exporter.metrics_prefix``, it writes dashboards and rules for those names to FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from mailstream.dashboards.boards import BOARDS
from mailstream.dashboards.build import dashboard_json
from producers.sources.probe.config import Options

ROOT: Final = Path(__file__).parents[2]
GRAFANA: Final = ROOT / "deploy" / "grafana"
RULES: Final = ROOT / "deploy" / "prometheus" / "rules" / "probe.yml"
DEFAULT_PREFIX: Final = "mail_"


def files(prefix: str = DEFAULT_PREFIX) -> dict[str, str]:
    """Return every file by its name, with the probe's metrics under *prefix*."""
    written = {f"{board.name}.json": dashboard_json(board) for board in BOARDS}
    if prefix != DEFAULT_PREFIX:
        written[RULES.name] = RULES.read_text(encoding="utf-8")
    ours, wanted = (Options(metrics_prefix=one).series_prefix for one in (DEFAULT_PREFIX, prefix))
    return {name: text.replace(ours, wanted) for name, text in written.items()}


@click.command()
@click.option("--prefix", default=DEFAULT_PREFIX, help="The probe's exporter.metrics_prefix.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=GRAFANA)
def main(prefix: str, folder: Path) -> None:
    """Write the dashboards, and with --prefix the probes' rules too, to FOLDER."""
    if prefix != DEFAULT_PREFIX and folder == GRAFANA:
        raise click.UsageError("with --prefix, name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(prefix).items():
        (folder / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{folder / name}\n")


if __name__ == "__main__":
    main()
