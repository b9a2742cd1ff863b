"""The built distribution works without the repository around it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PACKAGES = ("mailstream", "pipeline", "producers", "consumers")
SHIPPED = (*PACKAGES, "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A copy: building leaves folders behind in the source.
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    command: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "-w", target, source]
    subprocess.run(command, check=True)
    (built,) = target.glob("mailstream-*.whl")
    return built


def test_the_wheel_holds_every_module_and_what_they_read(wheel: Path) -> None:
    expected = {
        str(path.relative_to(ROOT))
        for name in PACKAGES
        for kind in ("*.py", "*.toml", "*.sql", "page/*.*")
        for path in (ROOT / name).rglob(kind)
    }
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert expected | {"mailstream/kafka/pom.xml", "mailstream/py.typed"} <= held
    assert not any(name.startswith(("tests/", "bench/")) for name in held)


def test_the_installed_program_finds_its_pom_and_its_commands(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    script = (
        "from mailstream import cli; from mailstream.kafka import jars as kafka_jars; "
        "assert kafka_jars.__file__.startswith(__import__('sys').argv[1]); "
        "assert kafka_jars.kafka_version(); cli.call(['--help']); cli.call(['classify', '552 mailbox full'])"
    )
    answer = subprocess.run(
        [sys.executable, "-P", "-c", script, installed],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage: mailstream" in answer.stdout
    assert '{"class": "mailbox_full"' in answer.stdout
