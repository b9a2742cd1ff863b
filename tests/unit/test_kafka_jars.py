"""What the local broker runs on, found or fetched: with small programs in place of Java and Maven."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailstream.kafka.jars import POM, jars, java, kafka_version
from pipeline.core.errors import ConfigError, MailstreamError

JAVA = """#!/bin/sh
echo 'openjdk version "{version}" 2025-04-15' >&2
"""
MAVEN = """#!/bin/sh
echo "run with $JAVA_HOME" >> "$MAVEN_RUNS"
for argument; do
  case $argument in -DoutputDirectory=*) : > "${argument#*=}/kafka_2.13-4.3.1.jar" ;; esac
done
"""
BROKEN_MAVEN = """#!/bin/sh
echo '[INFO] resolving'
echo '[ERROR] no route to the repository'
exit 1
"""


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / "bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def environ(folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{folder / 'bin'}:{os.defpath}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "MAVEN_RUNS": str(folder / "runs"),
    }


@pytest.mark.parametrize("version", ["17", "17.0.15", "21-ea", "25.0.2"])
def test_java_17_and_newer_is_taken_from_the_path(tmp_path: Path, version: str) -> None:
    found = program(tmp_path, "java", JAVA.format(version=version))
    assert java({"PATH": str(found.parent)}) == found


def test_java_home_goes_before_the_path(tmp_path: Path) -> None:
    on_path = program(tmp_path / "path", "java", JAVA.format(version="21"))
    named = program(tmp_path / "home", "java", JAVA.format(version="17"))
    assert java({"PATH": str(on_path.parent), "JAVA_HOME": str(tmp_path / "home")}) == named


def test_an_old_java_in_java_home_does_not_hide_a_new_one_on_the_path(tmp_path: Path) -> None:
    on_path = program(tmp_path / "path", "java", JAVA.format(version="21"))
    program(tmp_path / "home", "java", JAVA.format(version="1.8.0_292"))
    assert java({"PATH": str(on_path.parent), "JAVA_HOME": str(tmp_path / "home")}) == on_path


def test_jars_are_fetched_once_however_many_ask_at_once(tmp_path: Path) -> None:
    program(tmp_path, "mvn", MAVEN)
    found = program(tmp_path, "java", JAVA.format(version="17"))
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: jars(environ=environ(tmp_path)), range(16)))
    (folder,) = folders
    assert [path.name for path in folder.iterdir()] == ["kafka_2.13-4.3.1.jar"]
    assert (tmp_path / "runs").read_text() == f"run with {found.parent.parent}\n"


def test_what_a_killed_fetch_left_behind_is_removed_by_the_next(tmp_path: Path) -> None:
    program(tmp_path, "mvn", MAVEN)
    program(tmp_path, "java", JAVA.format(version="17"))
    folder = jars(environ=environ(tmp_path))
    leftover = folder.rename(folder.with_name(f"{folder.name}.killed"))
    assert jars(environ=environ(tmp_path)) == folder
    assert not leftover.exists()


def test_another_pom_is_another_folder(tmp_path: Path) -> None:
    program(tmp_path, "mvn", MAVEN)
    program(tmp_path, "java", JAVA.format(version="17"))
    other = tmp_path / "pom.xml"
    other.write_text(POM.read_text().replace("<version>2.25", "<version>2.26"))
    assert jars(environ=environ(tmp_path)) != jars(other, environ(tmp_path))


def test_a_failed_fetch_tells_mavens_reason_and_leaves_nothing_behind(tmp_path: Path) -> None:
    program(tmp_path, "mvn", BROKEN_MAVEN)
    program(tmp_path, "java", JAVA.format(version="17"))
    with pytest.raises(MailstreamError, match="no route to the repository"):
        jars(environ=environ(tmp_path))
    assert [path.name for path in (tmp_path / "cache" / "mailstream").iterdir()] == ["fetch.lock"]


def test_without_maven_the_error_names_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"apt install maven.*docker compose up"):
        jars(environ={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")})


def test_without_a_place_for_the_jars_the_error_names_the_variable(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        jars(environ={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(in_the_way)})
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        jars(environ={"PATH": str(tmp_path)})


def test_the_pom_names_the_version_that_the_folder_carries() -> None:
    assert kafka_version() == "4.3.1"
