"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from mailstream import cli
from mailstream.commands import configuration
from pipeline.core.errors import ConfigError, MailstreamError, TransientError
from pipeline.kit.settings_load import load

COMMANDS = [
    ["run"],
    ["demo"],
    ["kafka", "start"],
    ["kafka", "stop"],
    ["kafka", "status"],
    ["topics", "create"],
    ["topics", "describe"],
    ["worker"],
    ["produce", "ingest"],
    ["tail"],
    ["dead", "list"],
    ["dead", "show", "0:0"],
    ["dead", "retry", "--all"],
    ["replay", "events", "--to-file", "f"],
    ["config", "check"],
    ["config", "example"],
    ["classify"],
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MAILSTREAM_CONFIG", "MAILSTREAM_HASH_KEY"):
        monkeypatch.delenv(name, raising=False)


class Called:
    """What a call printed, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.code = cli.call(list(arguments))
        self.out, self.err = capsys.readouterr()


Capture = pytest.CaptureFixture[str]


def test_the_version_is_that_of_the_distribution(capsys: Capture) -> None:
    called = Called(capsys, "--version")
    assert (called.code, called.out) == (0, f"mailstream {version('mailstream')}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_takes_config_and_explains_itself(
    command: list[str], capsys: Capture
) -> None:
    called = Called(capsys, *command, "--help")
    assert called.code == 0
    assert "--config FILE" in called.out


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c not in (["config", "example"], ["classify"])], ids=" ".join
)
def test_no_command_starts_with_a_mistaken_configuration(
    command: list[str], capsys: Capture
) -> None:
    Path("bad.yaml").write_text("{topics: {partitions: 0}, kafka: {bootstrap: x}}")
    called = Called(capsys, *command, "--config", "bad.yaml")
    assert called.code == 2
    assert called.out == ""
    unknown, low = called.err.splitlines()
    assert unknown.startswith("mailstream: bad.yaml: kafka.bootstrap: unknown key; the nearest")
    assert low.startswith("mailstream: bad.yaml: topics.partitions: expected a whole number")


@pytest.mark.parametrize(
    "command", [[], ["kafka"], ["topics"], ["produce"], ["dead"], ["config"]], ids=" ".join
)
def test_no_line_of_a_list_of_commands_is_cut_short(command: list[str], capsys: Capture) -> None:
    assert "..." not in Called(capsys, *command, "--help").out.partition("Commands:")[2]


def test_config_may_stand_before_or_after_the_command_and_the_innermost_counts(
    capsys: Capture,
) -> None:
    for name in ("a", "b"):
        Path(f"{name}.yaml").write_text(f'topics: {{prefix: "{name}."}}')
    for arguments, prefix in (
        (("--config", "a.yaml", "config", "check"), "a."),
        (("config", "--config", "a.yaml", "check"), "a."),
        (("config", "check", "--config", "a.yaml"), "a."),
        (("--config", "a.yaml", "config", "check", "--config", "b.yaml"), "b."),
    ):
        called = Called(capsys, *arguments)
        assert yaml.safe_load(called.out)["topics"]["prefix"] == prefix


def test_config_is_found_by_the_variable_too(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("v.yaml").write_text('topics: {prefix: "v."}')
    monkeypatch.setenv("MAILSTREAM_CONFIG", "v.yaml")
    assert yaml.safe_load(Called(capsys, "config", "check").out)["topics"]["prefix"] == "v."
    called = Called(capsys, "config", "check", "--config", "none.yaml")
    assert called.code == 2
    assert called.err.startswith("mailstream: none.yaml: the file cannot be read")


def test_config_check_prints_masked_settings_and_warnings(capsys: Capture) -> None:
    Path("mailstream.yaml").write_text("ingest: {listen: 0.0.0.0:80, api_keys: [hunter2]}")
    called = Called(capsys, "config", "check")
    assert called.code == 0
    assert "hunter2" not in called.out + called.err
    assert yaml.safe_load(called.out)["ingest"]["listen"] == "0.0.0.0:80"
    assert "# warning: ingest.tls_cert: " in called.out


def test_config_example_loads(capsys: Capture) -> None:
    called = Called(capsys, "config", "example")
    defaults = load(None, {})
    Path("mailstream.yaml").write_text(called.out)
    assert load(None, {}) == defaults


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["config", "bogus"],
        ["config", "check", "--bogus"],
        ["run", "--workers", "0"],
        ["worker", "--listen", "nowhere"],
        ["tail", "--where", "user = 'x'"],
        ["tail", "--where", "usr == 'x'"],
        ["tail", "--since", "10 minutes"],
        ["tail", "--count", "0"],
        ["dead", "show", "17"],
        ["dead", "retry"],
        ["dead", "retry", "--reason", "bogus"],
        ["replay", "events"],
        ["replay", "deltas", "--to-file", "f"],
        ["replay", "events", "--to-file", "f", "--to-prefix", "x."],
        ["replay", "events", "--to-file", "f", "--from", "yesterday"],
        ["replay", "events", "--to-file", "f", "--offsets", "1:2"],
        ["replay", "events", "--to-file", "f", "--offsets", "1:3-3"],
        ["replay", "events", "--to-file", "f", "--offsets", "1:2-3", "--offsets", "1:5-6"],
        [
            "replay",
            "events",
            "--to-file",
            "f",
            "--offsets",
            "1:2-3",
            "--until",
            "2026-01-02T00:00:00Z",
        ],
        ["replay", "events", "--to-file", "f", "--speed", "0"],
        ["replay", "events", "--to-file", "f", "--where", "usr == 'x'"],
        ["replay", "raw.zonemta", "--to-file", "f", "--where", "user == 'x'"],
        [],
        ["kafka"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_two(arguments: list[str], capsys: Capture) -> None:
    called = Called(capsys, *arguments)
    assert called.code == 2
    assert called.err.startswith("Usage: mailstream")
    assert "Traceback" not in called.err


@pytest.mark.parametrize(
    "command", [["topics", "create"], ["worker"], ["produce", "ingest"], ["tail"], ["dead", "list"]]
)
def test_without_a_broker_one_sentence_tells_what_to_do(
    command: list[str], capsys: Capture
) -> None:
    called = Called(capsys, *command)
    assert called.code == 1
    assert called.err.startswith("mailstream: no Kafka: set kafka.bootstrap_servers, or start")
    assert called.err.count("\n") == 1


def test_a_worker_that_strangers_could_read_refuses_to_start(capsys: Capture) -> None:
    called = Called(capsys, "worker", "--listen", "0.0.0.0:0")
    assert called.code == 2
    assert "others can reach this address" in called.err


def test_status_tells_that_no_broker_runs_and_makes_nothing(capsys: Capture) -> None:
    called = Called(capsys, "kafka", "status")
    assert called.code == 1
    assert called.out.startswith("not running\n")
    assert Called(capsys, "kafka", "stop").out == "not running\n"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "sentences"),
    [
        (ConfigError(["one", "two"]), 2, ["mailstream: one", "mailstream: two"]),
        (MailstreamError("broken"), 1, ["mailstream: broken"]),
        (TransientError("away"), 1, ["mailstream: away"]),
        (PermissionError(13, "Permission denied", "/x"), 1, ["mailstream: /x: Permission denied"]),
        (KeyboardInterrupt(), 1, ["mailstream: interrupted"]),
    ],
)
def test_an_expected_error_is_a_sentence_and_a_code(
    error: BaseException,
    code: int,
    sentences: list[str],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(configuration, "settings", fail)
    called = Called(capsys, "config", "check")
    assert called.code == code
    # click ends the line of the terminal's ^C
    assert [line for line in called.err.splitlines() if line] == sentences


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    program = [sys.executable, "-m", "mailstream", "config", "example"]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        program, stdout=writing, stderr=subprocess.PIPE, env=environ, check=False
    )
    os.close(writing)
    assert ended.returncode == 1
    assert ended.stderr == b""


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from mailstream.cli import call; call(['--help']);"
        "heavy = {'aiokafka', 'faust', 'numpy', 'pydantic', 'aiohttp'} & sys.modules.keys();"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
