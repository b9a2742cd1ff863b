"""The section of ZoneMTA's ``log.remote``: when it is on, and what it refuses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mailstream.running.listeners import check_listeners
from pipeline.core.errors import ConfigError
from pipeline.kit.settings import Settings
from pipeline.kit.settings_checks import warnings
from pipeline.kit.settings_listeners import openings
from pipeline.kit.settings_load import load
from producers.registry import configured


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mailstream.yaml"


def loaded(file: Path, text: str) -> Settings:
    file.write_text(text)
    return load(file, {})


def section(options: str) -> str:
    return f"zonemta: {{log_remote: {{{options}}}}}"


@pytest.mark.parametrize(
    "text", ["", "zonemta: null", "zonemta: {}", "zonemta: {log_remote: null}"]
)
def test_it_is_off_unless_its_section_is_there(file: Path, text: str) -> None:
    settings = loaded(file, text)
    assert settings.log_remote is None
    assert "log-remote" not in [producer.name for producer in configured(settings)]


def test_alone_it_switches_no_node_agent_on(file: Path) -> None:
    settings = loaded(file, section(""))
    assert settings.node_agent is None
    names = [producer.name for producer in configured(settings)]
    assert "log-remote" in names
    assert "nodes" not in names
    assert "zonemta.log_remote" in [opening.section for opening in openings(settings)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "udp: '0.0.0.0:31239'",
            "zonemta.log_remote.udp: expected zonemta.log_remote.allow",
        ),
        (
            "listen: '0.0.0.0:9787'",
            "zonemta.log_remote.listen: expected metrics.password or zonemta.log_remote.allow",
        ),
        (
            "listen: '127.0.0.1:9780'",
            "zonemta.log_remote.listen: expected an address other than ingest.listen",
        ),
        (
            "udp: '127.0.0.1:12201'",
            "zonemta.log_remote.udp: expected an address other than gelf.udp",
        ),
        ("spool_bytes: 1", "zonemta.log_remote.spool_bytes: expected a whole number of 1048576"),
    ],
)
def test_what_is_unsafe_or_impossible_is_refused(file: Path, options: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(file, section(options))
    (mistake,) = refused.value.mistakes
    said = mistake.removeprefix(f"{file}: ").replace("others can reach this address: ", "")
    assert said.startswith(expected)


def test_open_to_the_world_is_warned_of(file: Path) -> None:
    options = "udp: '0.0.0.0:31239', allow: ['0.0.0.0/0']"
    assert [one for one in warnings(loaded(file, section(options))) if "log_remote" in one] == [
        "zonemta.log_remote.allow: anyone may send entries; senders can also be forged"
    ]


def test_a_taken_port_is_found_before_anything_starts(file: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        free = "listen: '127.0.0.1:0'"
        rest = f"ingest: {{{free}}}\nmetrics: {{{free}}}\ngelf: {{{free}, udp: null, tcp: null}}\n"
        settings = loaded(file, rest + section(f"{free}, udp: '127.0.0.1:{port}'"))
        with pytest.raises(ConfigError) as refused:
            check_listeners(settings, 1)
    (mistake,) = refused.value.mistakes
    assert mistake.startswith(f"zonemta.log_remote.udp: 127.0.0.1:{port} is taken")
