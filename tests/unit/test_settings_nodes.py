"""The sections of the node agent: what they refuse, and when the agent is on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.kit.settings import Settings
from pipeline.kit.settings_doc import effective
from pipeline.kit.settings_listeners import openings
from pipeline.kit.settings_load import load
from producers.registry import configured


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").touch()
    return tmp_path / "mailstream.yaml"


def loaded(file: Path, text: str) -> Settings:
    file.write_text(text)
    return load(file, {})


def mistakes(file: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        loaded(file, text)
    return [one.removeprefix(f"{file}: ") for one in refused.value.mistakes]


def zonemta(options: str) -> str:
    return f"zonemta: {{nodes: [{{name: mta1, {options}}}]}}"


def test_the_agent_is_off_unless_one_of_its_sections_is_there(file: Path) -> None:
    for text in ("", "nodes:\n", "nodes: null", "zonemta: null"):
        settings = loaded(file, text)
        assert settings.node_agent is None
        assert "nodes" not in [producer.name for producer in configured(settings)]
        assert "nodes" not in [opening.section for opening in openings(settings)]
    for text in ("nodes: {}", zonemta("cluster: a")):
        settings = loaded(file, text)
        assert settings.node_agent is not None
        assert "nodes" in [producer.name for producer in configured(settings)]
        assert "nodes" in [opening.section for opening in openings(settings)]
        assert settings.node_agent.system == (settings.nodes is not None)


def test_an_agent_that_posts_to_ingest_needs_no_kafka(file: Path) -> None:
    posts = loaded(file, "nodes: {post_to: {url: 'http://127.0.0.1:9780'}}")
    writes = loaded(file, "nodes: {}")
    needs = [
        producer.needs_kafka(settings)
        for settings in (posts, writes)
        for producer in configured(settings)
        if producer.name == "nodes"
    ]
    assert needs == [False, True]


@pytest.mark.parametrize(
    "options",
    [
        "url: 'http://127.0.0.1:12080'",
        "url: 'http://localhost:12080/api/'",
        "url: 'http://[::1]:12080'",
        "url: 'https://mta1.example:12443', cafile: ca.pem",
        "url: 'https://mta1.example:12443', username: u, password: p",
    ],
)
def test_an_api_without_authentication_may_be_reached_so(file: Path, options: str) -> None:
    assert loaded(file, zonemta(options)).zonemta is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            zonemta("url: 'http://mta1.example:12080'"),
            "zonemta.nodes[0].url: expected https, as it is not on this machine: the API has no authentication",
        ),
        (
            zonemta("url: 'http://192.0.2.1:12080', username: u, password: p"),
            "zonemta.nodes[0].url: expected https, as it is not on this machine: the API has no authentication",
        ),
        (
            zonemta("url: 'https://mta1.example:12443'"),
            "zonemta.nodes[0].cafile: expected cafile, or username and password, as the URL is not on this machine",
        ),
        (
            zonemta("username: u"),
            "zonemta.nodes[0].username: expected username and password, or neither",
        ),
        (
            zonemta("cafile: gone.pem"),
            "zonemta.nodes[0].cafile: expected the path of a file that is there",
        ),
        (
            zonemta("url: 'http://user:secret@127.0.0.1:12080'"),
            "zonemta.nodes[0].url: expected a URL such as http://127.0.0.1:12080 or https://mta1.example:12443, without a login, query or fragment",
        ),
        ("zonemta: {nodes: []}", "zonemta.nodes: expected a list of 1 or more"),
        (
            "zonemta: {nodes: [{name: a}, {name: a}]}",
            "zonemta.nodes[1].name: expected a name other than zonemta.nodes[0]'s",
        ),
        (
            "nodes: {redis: [{}, {}]}",
            "nodes.redis[1].name: expected a name other than nodes.redis[0]'s",
        ),
        (
            "nodes: {redis: [{cafile: ca.pem}]}",
            "nodes.redis[0].tls: expected true, as cafile is set",
        ),
        (
            "nodes: {wildduck: [{url: 'http://wildduck.example'}]}",
            "nodes.wildduck[0].url: expected https, as it is not on this machine",
        ),
        (
            "nodes: {post_to: {url: 'http://ingest.example:9780'}}",
            "nodes.post_to.url: expected https, as it is not on this machine",
        ),
        ("nodes: {mongodb: [{}]}", "nodes.mongodb[0].uri: is missing"),
        ("nodes: {post_to: {}}", "nodes.post_to.url: is missing"),
        (
            "nodes: {sytem: false}",
            "nodes.sytem: unknown key; the nearest known key is nodes.system",
        ),
        (
            "nodes: {system_interval: 100ms}",
            "nodes.system_interval: expected a duration of 1s to 1h",
        ),
        (
            "nodes: {listen: '0.0.0.0:9784'}",
            "nodes.listen: others can reach this address: expected metrics.password or nodes.allow, or a loopback address such as 127.0.0.1",
        ),
        (
            "nodes: {listen: '127.0.0.1:9781'}",
            "nodes.listen: expected an address other than metrics.listen",
        ),
    ],
)  # fmt: skip
def test_a_mistake_names_key_and_expectation(file: Path, text: str, expected: str) -> None:
    assert mistakes(file, text) == [expected]


def test_secrets_may_stand_in_files_and_are_never_shown(file: Path) -> None:
    (file.parent / "secret").write_text("mongodb://u:hunter2@127.0.0.1/\n")
    settings = loaded(
        file,
        "nodes: {mongodb: [{uri_file: secret}], redis: [{password: hunter2}],"
        " wildduck: [{token: hunter2}], folders: [{name: q, path: queue}]}",
    )
    assert settings.nodes is not None
    assert settings.nodes.mongodb[0].uri.get_secret_value() == "mongodb://u:hunter2@127.0.0.1/"
    assert settings.nodes.folders[0].path == file.parent / "queue"
    assert "hunter2" not in effective(settings) + repr(settings)
