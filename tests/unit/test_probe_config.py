"""The probe's file: the exporter's own format with every key, variables, mistakes and warnings."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pipeline.core.errors import ConfigError
from pipeline.kit.values import Address
from producers.sources.probe import config_keys
from producers.sources.probe.config import Options, ProbeConfig
from producers.sources.probe.config_read import read_config
from producers.sources.probe.environment import Expansion, read_env_file
from producers.sources.probe.example import EXAMPLE, config_path, write_example
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.reload import LOOK_S, Files
from tests.kit.clock import FakeClock
from tests.kit.probe_rounds import SECRET, tree, written

SAMPLE = Path(__file__).parents[1] / "samples" / "probe" / "config.yaml"
PASSWORDS = {"OWN_SMTP_PASS": "smtp-pass", "OWN_IMAP_PASS": "imap-pass", "GMAIL_APP_PASS": "app"}
DOC = (Path(__file__).parents[2] / "docs" / "probe.md").read_text()


def mistakes(path: Path, content: Any, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        written(path, content, environ or {})
    return "\n".join(caught.value.mistakes)


def test_a_file_of_the_exporter_with_every_key_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    shutil.copy(SAMPLE, path)
    config = read_config(path, PASSWORDS)
    assert [one for one in config.warnings if "others can read" not in one] == []
    assert config.options == Options(
        listen_addr="0.0.0.0",
        listen_port=9782,
        check_interval_seconds=240,
        receive_poll_seconds=6,
        receive_timeout_seconds=110,
        smtp_timeout_seconds=50,
        delete_testmail_after_verify=False,
        subject_prefix="[PROBE]",
        metrics_prefix="shop_",
        uncertain_probe_on_timeout=False,
        uncertain_probe_timeout_seconds=11,
        uncertain_probe_poll_seconds=3,
        min_smtp_interval_seconds=2,
        send_jitter_max_seconds=1.5,
    )
    assert [route.name for route in config.routes] == ["own-to-gmail", "gmail-to-own", "own→own"]
    first, second = config.routes[:2]
    assert first.sender.smtp is not None
    assert first.sender.smtp.password == "smtp-pass"
    assert first.sender.smtp.timeout_s == 30
    assert not first.sender.smtp.implicit_tls
    assert second.sender.smtp is not None
    assert second.sender.smtp.implicit_tls
    assert second.sender.smtp.timeout_s == 50
    assert first.recipient.imap is not None
    assert first.recipient.imap.extra_folders == ("[Gmail]/Alle Nachrichten", "[Gmail]/Spam")
    assert first.recipient.imap.password_env == "GMAIL_APP_PASS"
    assert (first.sender.address, first.recipient.address) == (
        "probe-a@example.test",
        "probe@example.com",
    )
    assert (config.size, config.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_a_variable_that_is_not_set_is_named_with_account_host_and_key(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    shutil.copy(SAMPLE, path)
    with pytest.raises(ConfigError) as caught:
        read_config(path, {k: v for k, v in PASSWORDS.items() if k != "OWN_IMAP_PASS"})
    (sentence,) = caught.value.mistakes
    for part in ("OWN_IMAP_PASS", "accounts.own.imap.password", "mail.example.test", "account own"):
        assert part in sentence


def test_variables_come_from_a_file_beside_it_and_the_environment_wins(tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path / "config.yaml")
    (tmp_path / ".env").write_text(
        "# passwords\nexport OWN_SMTP_PASS=\"from # file\"\nOWN_IMAP_PASS='it is' # so\n"
        "GMAIL_APP_PASS=abcd efgh  # of the app\n\nMETRICS_USER=prom\nMETRICS_PASS=m$1\nAPI_KEY=k\nDEBUG=true\n"
    )
    config = read_config(tmp_path / "config.yaml", {"API_KEY": "of-the-process"})
    smtp = config.routes[0].sender.smtp
    assert smtp is not None
    assert smtp.password == "from # file"
    imap = config.routes[0].recipient.imap
    assert imap is not None
    assert imap.password == "abcd efgh"
    assert config.access.api_key == "of-the-process"
    assert config.access.metrics_pass == "m$1"
    assert config.access.debug
    assert config.warnings == ()


def test_a_bad_line_of_the_env_file_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nthis is s3cret\n")
    with pytest.raises(ConfigError, match="line 2: expected NAME=value") as caught:
        read_env_file(tmp_path / ".env")
    assert "s3cret" not in str(caught.value)


def test_unknown_keys_warn_and_name_the_nearest_known_key(tmp_path: Path) -> None:
    content = tree(1, chek_interval_seconds=5)
    content["accounts"]["a0"]["smtp"]["pasword"] = SECRET
    content["testz"] = []
    config = written(tmp_path / "config.yaml", content)
    told = "\n".join(config.warnings)
    assert "exporter.chek_interval_seconds: unknown key" in told
    assert "nearest known key is check_interval_seconds" in told
    assert "nearest known key is password" in told
    assert "testz" in told
    assert SECRET not in told


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tests": []}, "tests: expected a list"),
        ({"tests": [{"from": "a0", "to": "nobody"}]}, "tests.0.to: expected an account: a0"),
        ({"accounts": {}}, "accounts: expected accounts by name"),
        ({"exporter": {"listen_port": "x"}}, "exporter.listen_port: expected a whole number"),
        ({"exporter": {"receive_poll_seconds": -1}}, "exporter.receive_poll_seconds: expected"),
        ({"exporter": {"metrics_prefix": "a b"}}, "exporter.metrics_prefix: expected letters"),
        ({"exporter": [1]}, "exporter: expected keys with values"),
        ({"exporter": {"queue_url": "ftp://x"}}, "exporter.queue_url: expected a URL"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, change: Any, expected: str) -> None:
    told = mistakes(tmp_path / "config.yaml", {**tree(1), **change})
    assert expected in told
    assert SECRET not in told


def test_an_account_needs_an_address_and_files_must_be_there(tmp_path: Path) -> None:
    content = tree(1)
    for part in ("smtp", "imap"):
        content["accounts"]["a0"][part]["username"] = "apikey"
    content["accounts"]["a0"]["smtp"]["ca_file"] = "nowhere.pem"
    told = mistakes(tmp_path / "config.yaml", content)
    assert "accounts.a0.address" in told
    assert "accounts.a0.smtp.ca_file" in told
    content["accounts"]["a0"]["address"] = "probe@example.test"
    (tmp_path / "nowhere.pem").touch()
    config = written(tmp_path / "config.yaml", content)
    assert config.routes[0].sender.address == "probe@example.test"


def test_own_keys_are_taken(tmp_path: Path) -> None:
    content = tree(1, max_parallel_routes=7, origin="here", queue_url="http://127.0.0.1:12080/")
    content["tests"][0] |= {"check_interval_seconds": 60, "receive_timeout_seconds": 9}
    content["accounts"]["a0"]["smtp"] |= {"source_address": "127.0.0.2", "verify": False}
    config = written(tmp_path / "config.yaml", content)
    assert config.options.queue_url == "http://127.0.0.1:12080"
    assert (config.routes[0].interval_s, config.routes[0].receive_timeout_s) == (60, 9)
    smtp = config.routes[0].sender.smtp
    assert smtp is not None
    assert (smtp.source_address, smtp.verify) == ("127.0.0.2", False)
    assert "accounts.a0.smtp.verify" in "".join(config.warnings)


def test_a_public_address_without_a_login_warns(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    assert "METRICS_USER" in "".join(written(path, tree(1, listen_addr="0.0.0.0")).warnings)
    login = {"METRICS_USER": "a", "METRICS_PASS": "b"}
    assert written(path, tree(1, listen_addr="0.0.0.0"), login).warnings == ()
    assert "METRICS_USER, METRICS_PASS" in mistakes(path, tree(1), {"METRICS_USER": "a"})


def test_the_file_s_address_wins() -> None:
    otherwise = Address("127.0.0.1", 1)
    assert Options().listen(otherwise) == otherwise
    assert Options(listen_addr="::", listen_port=0).listen(otherwise) == Address("::", 0)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("mail_", "mail_e2e_exporter_"),
        ("", "e2e_exporter_"),
        ("x_e2e_exporter_", "x_e2e_exporter_"),
    ],
)
def test_a_prefix_is_completed_and_never_doubled(prefix: str, expected: str) -> None:
    assert Options(metrics_prefix=prefix).series_prefix == expected


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    access = {"METRICS_USER": "u", "METRICS_PASS": "metrics-5ecret", "API_KEY": "key-5ecret"}
    config: ProbeConfig = written(tmp_path / "config.yaml", tree(2), access)
    assert "5ecret" not in repr(config)
    assert {SECRET, "metrics-5ecret", "key-5ecret"} <= set(config.secrets)


def test_the_example_can_be_filled_in_and_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yaml"
    assert not write_example(path, {})
    assert write_example(path, {"WRITE_EXAMPLE_CONFIG": "true"})
    assert not write_example(path, {"WRITE_EXAMPLE_CONFIG": "true"})
    assert path.read_text() == EXAMPLE
    config = read_config(path, {"OWN_PASS": "abc", "OTHER_PASS": "def"})
    assert len(config.routes) == 2
    assert config.warnings == ()


def test_where_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"CONFIG_PATH": "sub/probe.yaml"}
    assert config_path(Path("/a"), environ) == Path("/a")
    assert config_path(None, environ) == tmp_path / "sub" / "probe.yaml"
    assert config_path(None, {}) == tmp_path / "config.yaml"


@given(st.text())
def test_a_value_is_never_read_for_variables_twice(text: str) -> None:
    assert Expansion({"A": text}).of({"k": ["${A}"]}) == {"k": [text]}


@settings(max_examples=20, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_content_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = tmp_path_factory.mktemp("probe") / "config.yaml"
    for content in (
        {**tree(1), "exporter": value},
        {**tree(1), "accounts": value},
        {**tree(1), "tests": value},
    ):
        path.write_text(json.dumps(content))
        with suppress(ConfigError):
            read_config(path, {})


def test_every_key_is_documented() -> None:
    documented = set(re.findall(r"`([a-z_]+)`", DOC))
    tables = config_keys.EXPORTER, config_keys.SMTP, config_keys.IMAP, config_keys.TEST
    known = {key for table in tables for key in table} | set(config_keys.ACCOUNT)
    assert not known - documented


def test_a_file_that_is_being_written_is_read_once_it_rests(tmp_path: Path) -> None:
    path, clock = tmp_path / "config.yaml", FakeClock()
    written(path, tree(1))
    registry = CollectorRegistry()
    metrics = ProbeMetrics(registry, "mail_e2e_exporter_")
    taken: list[int] = []

    async def take(config: ProbeConfig) -> None:
        taken.append(len(config.routes))

    async def scene() -> None:
        files = Files(path, {}, clock)
        files.feed(metrics, take)
        watching = asyncio.create_task(files.run())
        await clock.advance(LOOK_S * 3)
        assert taken == []
        path.write_text("")
        await clock.advance(LOOK_S + 0.1)
        path.write_text(json.dumps(tree(2)))
        await clock.advance(LOOK_S * 2)
        assert taken == [2]
        path.write_text("accounts: {")
        await clock.advance(LOOK_S * 2)
        assert (taken, len(files.current.routes)) == ([2], 2)
        path.unlink()
        await clock.advance(LOOK_S * 2)
        assert "cannot be read" in "".join(files.broken)
        path.write_text(json.dumps(tree(3)))
        (tmp_path / ".env").write_text("API_KEY=new\n")
        await clock.advance(LOOK_S * 2)
        assert (taken, files.broken) == ([2, 3], ())
        (tmp_path / ".env").write_text("API_KEY=newer\n")
        await clock.advance(LOOK_S * 2)
        assert files.current.access.api_key == "newer"
        watching.cancel()

    asyncio.run(scene())
    name = "mail_e2e_exporter_config_last_reload_successful"
    assert registry.get_sample_value(name) == 1
