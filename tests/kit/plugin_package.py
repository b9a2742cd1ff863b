"""The plugins as operators get them: packed by npm, unpacked where an MTA looks for them."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

from tests.kit.processes import ROOT


def install_plugin(name: str, where: Path) -> None:
    """Pack ``plugins/<name>`` and put its files into the folder *where*.

    Args:
        name: Folder of the plugin.
        where: Made; must not exist.
    """
    source = ROOT / "plugins" / name
    quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(["npm", "ci", "--offline", *quiet], cwd=source, check=True, capture_output=True)
    where.parent.mkdir(parents=True, exist_ok=True)
    packing: list[str | Path] = ["npm", "pack", "--json", "--pack-destination", where.parent]
    packed = subprocess.run(packing, cwd=source, check=True, capture_output=True, text=True)
    archive = where.parent / json.loads(packed.stdout)[0]["filename"]
    with tarfile.open(archive) as files:
        files.extractall(where.parent, filter="data")
    archive.unlink()
    (where.parent / "package").rename(where)
