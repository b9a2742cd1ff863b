"""Rules of this code base that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("mailstream", "pipeline", "producers", "consumers", "tests", "bench")
MODULES = sorted(
    str(path.relative_to(ROOT)) for folder in CODE for path in (ROOT / folder).rglob("*.py")
)
TESTS = [module for module in MODULES if module.startswith("tests/")]
HOSTS = [
    # Written apart, or this file would hold what it looks for.
    "py" + "pi.org",
    "python" + "hosted.org",
    "repo.maven." + "apache.org",
    "repo1." + "maven.org",
    "deb.debian" + ".org",
    "npm" + "js.org",
]
LONGEST_FILE = 400


def shipped() -> Iterator[Path]:
    """Yield the files of the project, without those that .gitignore names."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name != ".git" and not any(fnmatch(name, pattern) for pattern in ignored)
        ]
        yield from (Path(folder) / name for name in files)


@pytest.mark.parametrize("module", [name for name in MODULES if name.endswith("__init__.py")])
def test_a_package_is_a_docstring(module: str) -> None:
    (only,) = ast.parse((ROOT / module).read_text()).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)
    assert isinstance(only.value.value, str)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_and_stays_short(module: str) -> None:
    text = (ROOT / module).read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("script", sorted(ROOT.glob("plugins/*/*.js")), ids=lambda path: path.stem)
def test_a_file_of_the_plugins_says_what_it_is_and_stays_short(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("/**")
    assert "\n'use strict';\n" in text
    assert len(text.splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("module", MODULES)
def test_no_functions_are_left_empty_for_later(module: str) -> None:
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Raise):
            assert "NotImplementedError" not in ast.unparse(node)


@pytest.mark.parametrize("module", TESTS)
def test_no_test_is_mocked_skipped_or_expected_to_fail(module: str) -> None:
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        match node:
            case ast.Import(names=names):
                assert not any(name.name.startswith("unittest") for name in names)
            case ast.ImportFrom(module=source):
                assert not (source or "").startswith("unittest")
            case ast.Attribute(value=ast.Name(id="pytest") | ast.Attribute(attr="mark")):
                assert node.attr not in {"skip", "skipif", "xfail", "importorskip"}
            case _:
                pass


def test_no_file_names_a_host_that_packages_come_from() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in shipped()
        for host in HOSTS
        if host in path.read_bytes().decode(errors="replace").lower()
    ]
    assert not found


def test_the_readme_s_make_commands_are_targets() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text()))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test"} <= named <= targets


def test_make_help_lists_every_target_that_stands_for_a_command() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: ([a-z]+)$", text, re.MULTILINE))
    answer = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, env=environ()
    )
    assert targets == set(re.findall(r"^  make ([a-z]+) +\S", answer.stdout, re.MULTILINE))


def environ() -> dict[str, str]:
    """Return an environment in which make does not take itself for a part of another make."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


def test_the_scripts_are_executable_and_strict() -> None:
    for script in (ROOT / ".ci").iterdir():
        assert os.access(script, os.X_OK)
        assert "\nset -euo pipefail\n" in script.read_text()
