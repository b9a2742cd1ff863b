"""docs/dependencies.md lists exactly what is depended on, and the lock files hold it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MTAS = ROOT / "tests" / "kit" / "mtas"
PAGE = ROOT / "consumers" / "view" / "page" / "vendor"
NPM_LOCKS = sorted(
    [
        *MTAS.glob("*/package-lock.json"),
        *ROOT.glob("plugins/*/package-lock.json"),
        PAGE / "package-lock.json",
    ]
)
DOCUMENT = (ROOT / "docs" / "dependencies.md").read_text()
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0] for requirement in requirements}


def listed(section: str) -> set[str]:
    """Return the first column of the table under the heading that begins with *section*."""
    text = re.split(rf"^## {section}.*$", DOCUMENT, flags=re.MULTILINE)[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return set(rows[2:])


def locked(lock: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE))


def normal(found: set[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


@pytest.mark.parametrize(
    ("section", "requirements"),
    [
        ("The program", PROJECT["project"]["dependencies"]),
        ("Optional", EXTRAS["java"]),
        ("Tests and tools", EXTRAS["dev"]),
        ("Building", PROJECT["build-system"]["requires"]),
    ],
)
def test_every_direct_dependency_is_explained(section: str, requirements: list[str]) -> None:
    assert listed(section) == names(requirements)


def test_every_extra_is_one_of_the_document_s() -> None:
    assert set(EXTRAS) == {"java", "dev"}


def test_every_artifact_of_the_pom_is_explained() -> None:
    pom = ET.parse(ROOT / "deploy" / "kafka" / "pom.xml")
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    artifacts = pom.findall("./m:dependencies/m:dependency/m:artifactId", space)
    assert listed("The local broker") == {artifact.text for artifact in artifacts}


def test_every_image_is_explained() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    images = {
        service["image"] for service in compose["services"].values() if "build" not in service
    }
    images |= set(
        re.findall(
            r"^FROM (\S+)", (ROOT / "deploy" / "docker" / "Dockerfile").read_text(), re.MULTILINE
        )
    )
    assert listed("Images") == {image.partition(":")[0] for image in images}


def test_the_debian_packages_that_errors_and_scripts_name_are_explained() -> None:
    texts = [
        (ROOT / "README.md").read_text(),
        (ROOT / "mailstream" / "kafka" / "jars.py").read_text(),
    ]
    scripts = "\n".join(path.read_text() for path in (ROOT / ".ci").iterdir())
    fetched = re.findall(r'/get-debian" "[^"]+" (.+)', scripts.replace("\\\n", ""))
    named = {
        package
        for text in texts
        for packages in re.findall(r"\binstall ((?:[a-z][a-z0-9-]+ ?)+)[`)]", text)
        for package in packages.split()
    } | {package for packages in fetched for package in packages.split()}
    assert named <= listed("Debian packages")
    assert {"prometheus", "redis-server"} <= named


def test_every_mta_and_store_of_the_tests_is_explained() -> None:
    packages = [
        json.loads((folder / "package.json").read_text())
        for folder in (MTAS / "zonemta", MTAS / "haraka")
    ]
    modules = re.findall(
        r"^require \S+/(\S+) ", (MTAS / "ferretdb" / "go.mod").read_text(), re.MULTILINE
    )
    named = {name for package in packages for name in package["dependencies"]} | set(modules)
    assert listed("Programs that tests run") == named


def test_what_the_page_is_drawn_with_is_explained() -> None:
    package = json.loads((PAGE / "package.json").read_text())
    assert listed("The page of the view") == set(package["dependencies"])


@pytest.mark.parametrize("lock", NPM_LOCKS)
def test_npm_lock_files_pin_everything_by_hash_and_name_no_place(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    for path, package in packages.items():
        if "node_modules/" in path and not package.get("link"):
            assert package["integrity"].startswith("sha512-"), path
        assert package.get("resolved", "../") == "../" or package.get("link"), path


@pytest.mark.parametrize(
    "plugin", sorted(path.parent for path in ROOT.glob("plugins/*/package.json"))
)
def test_plugins_need_nothing_but_node_and_our_client(plugin: Path) -> None:
    package = json.loads((plugin / "package.json").read_text())
    assert not {"devDependencies", "peerDependencies", "optionalDependencies"} & package.keys()
    dependencies = package.get("dependencies", {})
    assert dependencies in ({}, {"mailstream-client": "file:../client"})
    assert package.get("bundleDependencies", []) == list(dependencies)


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements-dev.lock", PROJECT["project"]["dependencies"] + EXTRAS["dev"]),
        ("requirements-java.lock", EXTRAS["java"]),
        ("requirements-build.lock", PROJECT["build-system"]["requires"]),
    ],
)
def test_the_lock_files_hold_every_direct_dependency(lock: str, requirements: list[str]) -> None:
    assert normal(names(requirements)) <= normal(locked(lock))


def test_every_lock_file_is_known() -> None:
    assert LOCKS == [
        "requirements-build.lock",
        "requirements-dev.lock",
        "requirements-java.lock",
        "requirements.lock",
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_files_pin_everything_by_hash_and_name_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_both_environments_agree_on_every_version() -> None:
    pin = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
    runtime = dict(pin.findall((ROOT / "requirements.lock").read_text()))
    development = dict(pin.findall((ROOT / "requirements-dev.lock").read_text()))
    assert runtime.items() <= development.items()
