"""What is deployed fits the program: every name, path, port and address in it exists."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from consumers.sinks.registry import SINKS
from mailstream.cli import cli
from mailstream.kafka import config as kafka_config
from mailstream.kafka.jars import kafka_version
from pipeline.kit.settings import Settings
from pipeline.kit.settings_base import Listener
from pipeline.kit.settings_cpanel import CpanelSettings
from pipeline.kit.settings_load import load
from pipeline.kit.settings_log_remote import LogRemoteSettings
from pipeline.kit.settings_nodes import NodesSettings
from pipeline.kit.settings_probe import ProbeSettings
from producers.registry import PRODUCERS, configured
from tests.kit.programs import program

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
LASTING = [name for name, service in SERVICES.items() if service["restart"] == "unless-stopped"]
SINK = "127.0.0.1:9788"
"""Where the sink listens, which has no settings without a database."""
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()


def settings() -> Settings:
    return load(ROOT / "deploy" / "docker" / "mailstream.yaml", {})


def stages() -> list[str]:
    return re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]


def listeners() -> dict[str, Listener]:
    """Return the HTTP listener of each service of ours that lasts."""
    given = settings()
    assert given.nodes is not None
    assert given.log_remote is not None
    assert given.view is not None
    return {
        "ingest": given.ingest,
        "gelf": given.gelf,
        "cpanel": given.cpanel,
        "nodes": given.nodes,
        "log-remote": given.log_remote,
        "probe": given.probe,
        "worker": given.metrics,
        "view": given.view,
    } | {row.process: section for row in SINKS if (section := row.section(given)) is not None}


def test_the_services_are_those_of_an_installation_and_every_producer_and_sink() -> None:
    producers = {producer.name for producer in PRODUCERS}
    sinks = {row.process for row in SINKS}
    assert set(LASTING) == {"kafka", "worker", "view", "prometheus", *producers, *sinks}
    assert set(listeners()) == {"worker", "view", *producers, *sinks} < set(OURS)


def test_what_needs_more_configuration_is_in_a_profile() -> None:
    started = {producer.name for producer in configured(Settings())}
    for producer in PRODUCERS:
        profiles = SERVICES[producer.name].get("profiles", [])
        assert profiles == ([] if producer.name in started else [producer.name])
    for row in SINKS:
        assert SERVICES[row.process]["profiles"] == [row.process]


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_patch_release(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("image", re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
def test_every_base_image_is_pinned_to_a_patch_release(image: str) -> None:
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z-]+", image)


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_service_has_a_health_check(name: str) -> None:
    assert {"test", "interval", "timeout", "retries"} <= set(SERVICES[name]["healthcheck"])


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_as_root(name: str) -> None:
    if name in OURS:
        assert re.findall(r"^USER (\S+)", stages()[-1], re.MULTILINE) == ["mailstream"]
    else:
        assert SERVICES[name]["user"] not in {"root", "0"}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_every_mounted_file_and_volume_exists(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.partition(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_awaited_service_can_reach_the_awaited_state(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        ends = other not in LASTING
        assert (wait["condition"] == "service_completed_successfully") == ends
        assert ends or "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists_with_its_options(name: str) -> None:
    command: click.Command = cli
    words = list(SERVICES[name]["command"])
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None
        command, context = found, click.Context(found, parent=context)
    command.parse_args(context, words)


@pytest.mark.parametrize("name", OURS)
def test_the_configuration_is_mounted_where_the_variable_says(name: str) -> None:
    path = SERVICES[name]["environment"]["MAILSTREAM_CONFIG"]
    assert f"./deploy/docker/mailstream.yaml:{path}:ro" in SERVICES[name]["volumes"]
    assert SERVICES[name]["build"]["dockerfile"] == "deploy/docker/Dockerfile"


@pytest.mark.parametrize("name", OURS)
def test_the_data_folder_is_a_volume_that_the_image_gives_to_its_user(name: str) -> None:
    folder = str(settings().data_dir)
    assert any(volume.endswith(f":{folder}") for volume in SERVICES[name]["volumes"])
    assert f"--home-dir {folder} --create-home" in stages()[-1]


def test_published_ports_and_health_checks_are_where_the_services_listen() -> None:
    for name, listener in listeners().items():
        port = listener.listen.port
        assert SERVICES[name]["ports"][0] == f"127.0.0.1:{port}:{port}"
        assert f"127.0.0.1:{port}/health" in SERVICES[name]["healthcheck"]["test"][-1]
    gelf, log_remote = settings().gelf, settings().log_remote
    assert log_remote is not None
    port = log_remote.udp.port
    assert SERVICES["log-remote"]["ports"][1:] == [f"127.0.0.1:{port}:{port}/udp"]
    assert gelf.tcp is not None
    assert gelf.udp is not None
    assert SERVICES["gelf"]["ports"][1:] == [
        f"127.0.0.1:{gelf.tcp.port}:{gelf.tcp.port}",
        f"127.0.0.1:{gelf.udp.port}:{gelf.udp.port}/udp",
    ]


def test_listeners_let_in_health_checks_and_the_compose_network_and_no_other() -> None:
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    expected = {ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network(network["subnet"])}
    for listener in listeners().values():
        assert set(listener.allow) == expected


def test_the_broker_is_the_local_brokers_version_with_its_settings() -> None:
    kafka = SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{kafka_version()}"
    assert (
        f"CLIENTS://{settings().kafka.bootstrap_servers}"
        in (kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"])
    )
    own = {
        "KAFKA_" + name.upper().replace(".", "_"): value
        for name, value in kafka_config.settings().items()
    }
    # Sized for a laptop's small heap; the container has Kafka's own defaults.
    small = {name for name in own if name not in kafka["environment"]}
    assert small == {
        "KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE",
        "KAFKA_NUM_NETWORK_THREADS",
        "KAFKA_NUM_IO_THREADS",
        "KAFKA_BROKER_SESSION_TIMEOUT_MS",
        "KAFKA_BROKER_HEARTBEAT_INTERVAL_MS",
    }
    assert {name: kafka["environment"][name] for name in own if name not in small} == {
        name: value for name, value in own.items() if name not in small
    }


@pytest.mark.parametrize("stage", stages(), ids=["build", "run"])
def test_everything_that_the_image_copies_is_there_and_not_ignored(stage: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for line in re.findall(r"^COPY (?!--from)(.+)$", stage, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored


def test_the_image_copies_every_package_and_installs_the_locked_dependencies() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(re.findall(r"^COPY (\w+) \./\1$", DOCKERFILE, re.MULTILINE))
    assert "--require-hashes -r requirements.lock" in DOCKERFILE


@pytest.mark.parametrize("folder", ["docker", "prometheus"])
def test_promtool_accepts_the_scrape_configuration(folder: str) -> None:
    path = ROOT / "deploy" / folder / "prometheus.yml"
    answer = subprocess.run(
        [program("promtool"), "check", "config", path], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_prometheus_scrapes_the_services_at_their_addresses() -> None:
    inside = yaml.safe_load((ROOT / "deploy" / "docker" / "prometheus.yml").read_text())
    found = {
        (name, source["port"])
        for job in inside["scrape_configs"]
        for source in job["dns_sd_configs"]
        for name in source["names"]
    }
    assert found == {(name, listener.listen.port) for name, listener in listeners().items()}

    given = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    defaults = Settings()
    assert defaults.view is not None
    services = defaults.ingest, defaults.metrics, defaults.gelf, defaults.view
    assert targets(given) == {str(service.listen) for service in services}
    optional = CpanelSettings(), NodesSettings(), LogRemoteSettings(), ProbeSettings()
    assert targets(re.sub(r"^#  ", "  ", given, flags=re.MULTILINE)) == {
        str(service.listen) for service in (*services, *optional)
    } | {SINK}


def targets(configuration: str) -> set[str]:
    jobs = yaml.safe_load(configuration)["scrape_configs"]
    return {
        target for job in jobs for source in job["static_configs"] for target in source["targets"]
    }


@pytest.mark.parametrize("folder", ["docker", "prometheus"])
def test_prometheus_loads_the_alert_rules(folder: str) -> None:
    given = yaml.safe_load((ROOT / "deploy" / folder / "prometheus.yml").read_text())
    assert given["rule_files"] == ["rules/*.yml"]
    assert list((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    mounted = SERVICES["prometheus"]["volumes"]
    assert "./deploy/prometheus/rules:/etc/prometheus/rules:ro" in mounted
