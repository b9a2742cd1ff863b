"""The section ``cpanel``: what it takes, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.kit.clock import SystemClock
from pipeline.kit.settings import Settings
from pipeline.kit.settings_checks import warnings
from pipeline.kit.settings_load import load
from producers.registry import configured
from producers.sources.cpanel.service import serve

LONG = "TOKEN1234567890ABCDEF"


def server(**keys: object) -> dict[str, object]:
    return {"name": "web1", "url": "https://web1.example:2087", "token": LONG, **keys}


def loaded(tmp_path: Path, *servers: dict[str, object], **keys: object) -> Settings:
    file = tmp_path / "mailstream.yaml"
    file.write_text(json.dumps({"cpanel": {"servers": servers, **keys}}))
    return load(file, {})


def mistakes(tmp_path: Path, *servers: dict[str, object], **keys: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, *servers, **keys)
    return [one.partition(".yaml: ")[2] for one in caught.value.mistakes]


def test_a_server_needs_three_keys_and_has_defaults(tmp_path: Path) -> None:
    (one,) = loaded(tmp_path, server(url="https://web1.example:2087/")).cpanel.servers
    assert (one.url, one.user, one.timezone) == ("https://web1.example:2087", "root", "UTC")
    assert (one.interval, one.timeout, one.history) == (60_000, 30_000, 86_400_000)
    assert one.verify
    assert "is missing" in "".join(mistakes(tmp_path, {}))


def test_the_token_may_stand_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    given = {name: value for name, value in server().items() if name != "token"}
    settings = loaded(tmp_path, {**given, "token_file": "token"})
    assert settings.cpanel.servers[0].token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings) + settings.model_dump_json()
    (warning,) = warnings(settings)
    assert warning.startswith("cpanel.servers[0].token: shorter than")


@pytest.mark.parametrize(
    "url",
    [
        "http://web1.example:2087",
        "web1.example:2087",
        "https://",
        "https://joe@web1.example:2087",
        "https://web1.example:2087/json-api",
        "https://web1.example:99999",
        "https://web1.example?x=1",
        "ftp://127.0.0.1",
    ],
)
def test_a_url_is_https_or_on_this_machine_and_nothing_more(tmp_path: Path, url: str) -> None:
    assert mistakes(tmp_path, server(url=url))[0].startswith(
        "cpanel.servers[0].url: expected https"
    )


def test_on_this_machine_http_will_do(tmp_path: Path) -> None:
    urls = "http://127.0.0.1:2086", "http://[::1]:2086", "http://localhost:2086"
    servers = [server(name=f"s{place}", url=url) for place, url in enumerate(urls)]
    assert [one.url for one in loaded(tmp_path, *servers).cpanel.servers] == list(urls)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("sending_ip", "host.example"),
        ("user", "a:b"),
        ("interval", "10ms"),
        ("ca_file", "absent.pem"),
        ("token", "two words"),
    ],
)
def test_a_value_that_cannot_be_is_named_by_its_key(tmp_path: Path, key: str, value: str) -> None:
    (mistake,) = mistakes(tmp_path, server(**{key: value}))
    assert mistake.startswith(f"cpanel.servers[0].{key}: expected")
    assert value not in mistake


def test_names_differ_and_one_server_alone_may_go_without_its_label(tmp_path: Path) -> None:
    found = mistakes(tmp_path, server(), server(), compat_single=True)
    assert [one.partition(":")[0] for one in found] == [
        "cpanel.servers[1].name",
        "cpanel.compat_single",
    ]
    assert loaded(tmp_path, server(), compat_single=True).cpanel.compat_single


def test_without_servers_it_is_off_and_its_address_may_be_anything(tmp_path: Path) -> None:
    assert "cpanel" not in {one.name for one in configured(loaded(tmp_path, listen="0.0.0.0:1"))}
    assert "cpanel" in {one.name for one in configured(loaded(tmp_path, server()))}


def test_the_poller_does_not_start_without_servers(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    with pytest.raises(ConfigError, match="at least one server"):
        asyncio.run(serve(settings, "127.0.0.1:1", SystemClock()))


def test_others_may_read_its_metrics_only_with_credentials_or_from_given_networks(
    tmp_path: Path,
) -> None:
    (mistake,) = mistakes(tmp_path, server(), listen="0.0.0.0:9783")
    assert "expected metrics.password or cpanel.allow" in mistake
    allowed = loaded(tmp_path, server(), listen="0.0.0.0:9783", allow=["10.0.0.0/8"])
    assert len(allowed.cpanel.allow) == 1


def test_a_certificate_that_is_not_checked_is_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings(loaded(tmp_path, server(verify=False)))
    assert warning.startswith("cpanel.servers[0].verify: ")
