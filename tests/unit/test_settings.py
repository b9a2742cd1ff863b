"""Settings: what a file may say, and what a mistake is told as."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.core.errors import ConfigError
from pipeline.core.topics import TOPIC
from pipeline.kit.settings import PipelineSettings, Settings
from pipeline.kit.settings_checks import warnings
from pipeline.kit.settings_load import load
from pipeline.kit.values import Address


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mailstream.yaml"


def loaded(file: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file.write_text(text)
    return load(file, environ or {})


def mistakes(file: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the mistakes, each without the name of the file that it must begin with."""
    with pytest.raises(ConfigError) as caught:
        loaded(file, text, environ)
    assert all(mistake.startswith(f"{file}: ") for mistake in caught.value.mistakes)
    return [mistake.removeprefix(f"{file}: ") for mistake in caught.value.mistakes]


def test_without_a_file_the_defaults_run_on_one_machine() -> None:
    settings = load(None, {})
    assert settings.kafka.bootstrap_servers is None
    assert [str(one.listen) for one in (settings.ingest, settings.metrics)] == [
        "127.0.0.1:9780",
        "127.0.0.1:9781",
    ]
    assert settings.pipeline.windows == (60_000, 300_000, 3_600_000, 86_400_000)
    assert settings.pipeline.commit_interval == 1000
    assert settings.topics.names.of("events") == "mail.events"
    assert settings.data_dir == Path.cwd() / ".mailstream"
    assert warnings(settings) == []


def test_an_empty_file_and_empty_sections_are_the_defaults(file: Path) -> None:
    expected = load(None, {}).model_copy(update={"data_dir": file.parent / ".mailstream"})
    assert loaded(file, "") == expected
    assert loaded(file, "# nothing\nkafka:\nprivacy:\n") == expected


def test_the_given_file_counts_before_the_variable_before_the_folder(tmp_path: Path) -> None:
    for name in ("given", "variable"):
        (tmp_path / name).write_text(f'topics: {{prefix: "{name}."}}')
    Path("mailstream.yaml").write_text('topics: {prefix: "folder."}')
    environ = {"MAILSTREAM_CONFIG": str(tmp_path / "variable")}
    assert load(tmp_path / "given", environ).topics.prefix == "given."
    assert load(None, environ).topics.prefix == "variable."
    assert load(None, {"MAILSTREAM_CONFIG": ""}).topics.prefix == "folder."
    assert load(None, {}).topics.prefix == "folder."


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^none\.yaml: the file cannot be read: No such file"):
        load(Path("none.yaml"), {})
    with pytest.raises(ConfigError, match="nowhere"):
        load(None, {"MAILSTREAM_CONFIG": "nowhere"})


def test_every_value_has_its_type(file: Path) -> None:
    settings = loaded(
        file,
        """
        data_dir: here
        kafka: {bootstrap_servers: "a:1, [::1]:2"}
        topics: {retention: {raw: 12h}, retention_bytes: {events: 1000}}
        ingest:
          listen: "[::1]:80"
          allow: [10.0.0.0/8, "::1"]
          api_keys: [bare-key, {name: mta1, key: named-key, sources: [haraka]}]
        pipeline: {windows: [24h, 10s], commit_interval: 500ms}
        privacy: {pseudonymise: [user]}
        expected_origins: [mta1]
        """,
    )
    assert settings.data_dir == file.parent / "here"
    assert settings.kafka.bootstrap_servers == "a:1,[::1]:2"
    assert settings.topics.retention == {"raw": 12 * 3_600_000}
    assert settings.ingest.listen == Address("::1", 80)
    assert settings.ingest.allow == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    bare, named = settings.ingest.api_keys
    assert (bare.name, bare.key.get_secret_value()) == ("default", "bare-key")
    assert (named.name, named.sources) == ("mta1", ("haraka",))
    assert settings.pipeline.windows == (10_000, 86_400_000)
    assert settings.pipeline.commit_interval == 500


def test_retention_is_as_configured_else_as_declared_and_ids_outlive_the_horizon(
    file: Path,
) -> None:
    settings = loaded(file, "{topics: {retention: {raw: 2h}}, pipeline: {dedupe_horizon: 2h}}")
    assert settings.retention_ms(TOPIC["raw.haraka"]) == 2 * 3_600_000
    assert settings.retention_ms(TOPIC["events"]) == 30 * 86_400_000
    assert settings.retention_ms(TOPIC["seen"]) == 3 * 3_600_000


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().topics.prefix = "other."


def test_code_gives_durations_in_milliseconds() -> None:
    assert PipelineSettings(windows=(60_000,)).windows == (60_000,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kafka: {bootstrap: x}", "kafka.bootstrap: unknown key; the nearest known key is kafka.bootstrap_servers"),
        ("ingest: {windows: [1m]}", "ingest.windows: unknown key; the nearest known key is pipeline.windows"),
        ("topic: {}", "topic: unknown key; the nearest known key is topics"),
        ("topics: {retention: {event: 1d}}", "topics.retention.event: unknown key; the nearest known key is topics.retention.events"),
        ("ingest: {api_keys: [{name: a, key: b, keys: c}]}", "ingest.api_keys[0].keys: unknown key; the nearest known key is ingest.api_keys[0].key"),
        ("ingest: {api_keys: [{key: abc}]}", "ingest.api_keys[0].name: is missing"),
        ("ingest: {api_keys: [{name: a, key: b, sources: [x]}]}", "ingest.api_keys[0].sources[0]: expected zonemta, haraka, nodes or gelf"),
        ("topics: {partitions: 0}", "topics.partitions: expected a whole number of 1 or more"),
        ("topics: {partitions: 4.0}", "topics.partitions: expected a whole number"),
        ("topics: {partitions: '4'}", "topics.partitions: expected a whole number"),
        ("topics: {prefix: mail}", "topics.prefix: expected letters, digits, dots, dashes and underscores, ending with one dot, at most 200 characters"),
        ("privacy: {keep_recipients: maybe}", "privacy.keep_recipients: expected true or false"),
        ("privacy: {pseudonymise: [ip]}", "privacy.pseudonymise[0]: expected user or client_ip"),
        ("pipeline: {commit_interval: 1}", "pipeline.commit_interval: expected a duration such as 500ms, 10s, 5m, 24h or 7d"),
        ("pipeline: {commit_interval: 10s}", "pipeline.commit_interval: expected a duration of 10ms to 5s"),
        ("pipeline: {windows: [15s]}", "pipeline.windows[0]: expected a window of at most 24h: a multiple of 10s up to 5m, of 1m up to 1h, of 5m above"),
        ("pipeline: {windows: [60s, 1m]}", "pipeline.windows: expected at least one window, each once"),
        ("pipeline: {windows: 1m}", "pipeline.windows: expected a list"),
        ("kafka: [a]", "kafka: expected keys with values"),
        ("ingest: {listen: 9780}", "ingest.listen: expected an address such as 127.0.0.1:9780 or [::1]:9780"),
        ("ingest: {listen: '::1:80'}", "ingest.listen: expected an address such as 127.0.0.1:9780 or [::1]:9780"),
        ("ingest: {listen: 'a:65536'}", "ingest.listen: expected an address such as 127.0.0.1:9780 or [::1]:9780"),
        ("ingest: {allow: [10.0.0.1/8]}", "ingest.allow[0]: expected a network such as 10.0.0.0/8 or 2001:db8::/32 (no bits set after the prefix)"),
        ("expected_origins: [_other]", "expected_origins[0]: expected 1 to 64 printable characters without spaces, other than _other and _unknown"),
        ("kafka: {bootstrap_servers: 'a:0'}", "kafka.bootstrap_servers: expected host:port with a port of 1 to 65535"),
        ("kafka: {sasl_password: 123}", "kafka.sasl_password: expected text (in quotes, if it looks like a number)"),
    ],
)  # fmt: skip
def test_a_mistake_names_key_and_expectation(file: Path, text: str, expected: str) -> None:
    assert mistakes(file, text) == [expected]


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    told = mistakes(
        file,
        """
        kafka: {nonsense: 1, security_protocol: SSH}
        topics: {partitions: none, retention: {raw: 1, seen: 30m}}
        ingest: {listen: 0.0.0.0:80, api_keys: []}
        metrics: {username: joe}
        expected_origins: [_other, "a b"]
        data_dir: ${UNSET}
        kafka: {}
        """,
    )
    keys = [mistake.partition(":")[0] for mistake in told]
    assert sorted(keys) == sorted(
        [
            "line 8",
            "data_dir",
            "topics.partitions",
            "topics.retention.raw",
            "topics.retention.seen",
            "ingest.listen",
            "metrics.username",
            "expected_origins[0]",
            "expected_origins[1]",
        ]
    )


@pytest.mark.parametrize(
    "text",
    [
        "ingest: {listen: 0.0.0.0:80}",
        "ingest: {listen: '[::]:80'}",
        "ingest: {listen: 'mail.example:80'}",
        "metrics: {listen: 192.0.2.1:80}",
        "gelf: {listen: 192.0.2.1:80}",
        "gelf: {udp: 0.0.0.0:12201}",
        "gelf: {tcp: '[::]:12201'}",
    ],
)
def test_a_listener_that_others_can_reach_needs_credentials_or_allow(file: Path, text: str) -> None:
    (told,) = mistakes(file, text)
    assert "others can reach this address" in told
    assert ".allow" in told


@pytest.mark.parametrize(
    "text",
    [
        "ingest: {listen: 0.0.0.0:80, api_keys: [a-key]}",
        "ingest: {listen: 0.0.0.0:80, allow: [10.0.0.0/8]}",
        "metrics: {listen: 0.0.0.0:81, username: joe, password: secret}",
        "ingest: {listen: localhost:80}",
        "ingest: {listen: 127.1.2.3:80}",
        "ingest: {listen: '[::1]:80'}",
        "gelf: {udp: 0.0.0.0:12201, tcp: 0.0.0.0:12201, allow: [10.0.0.0/8]}",
        "gelf: {udp: null, tcp: null, listen: 192.0.2.1:80}",
    ],
)
def test_a_protected_or_local_listener_is_fine(file: Path, text: str) -> None:
    loaded(file, text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("kafka: {security_protocol: SASL_SSL, sasl_username: joe}", "kafka.sasl_username"),
        ("kafka: {sasl_username: joe, sasl_password: pw}", "kafka.security_protocol"),
        ("kafka: {ssl_cafile: mailstream.yaml}", "kafka.security_protocol"),
        ("kafka: {security_protocol: SSL, ssl_cafile: none.pem}", "kafka.ssl_cafile"),
        ("kafka: {security_protocol: SSL, ssl_keyfile: mailstream.yaml}", "kafka.ssl_certfile"),
        ("metrics: {password: secret}", "metrics.username"),
        ("ingest: {tls_cert: mailstream.yaml}", "ingest.tls_cert"),
        ("ingest: {listen: 127.0.0.1:9781}", "metrics.listen"),
        ("ingest: {api_keys: [one-key, {name: a, key: one-key}]}", "ingest.api_keys[1].key"),
        ("gelf: {tcp: 127.0.0.1:9780}", "gelf.tcp"),
        ("gelf: {listen: 127.0.0.1:9780}", "gelf.listen"),
        ("gelf: {tcp_tls_cert: mailstream.yaml}", "gelf.tcp_tls_cert"),
        ("gelf: {tcp_client_ca: mailstream.yaml}", "gelf.tcp_client_ca"),
        ("topics: {retention: {deltas: 30m}}", "topics.retention.deltas"),
        ("{topics: {retention: {seen: 6h}}, pipeline: {dedupe_horizon: 6h}}", "topics.retention.seen"),
        ("data_dir: mailstream.yaml", "data_dir"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_a_mistake(file: Path, text: str, key: str) -> None:
    (told,) = mistakes(file, text)
    assert told.startswith(f"{key}: expected ")


def test_variables_are_expanded_inside_values_only(file: Path) -> None:
    environ = {"PREFIX": "shop.", "EVIL": '"}\nprivacy: {keep_recipients: true}', "EMPTY": ""}
    settings = loaded(
        file,
        """
        topics: {prefix: "${PREFIX}", partitions: "${PARTS:-12}"}
        privacy: {hash_key: "${EVIL}", keep_recipients: "${KEEP:-false}"}
        metrics: {username: "${PREFIX}x", password: "p${EMPTY}q"}
        """,
        environ,
    )
    assert settings.topics.prefix == "shop."
    assert settings.topics.partitions == 12
    assert settings.privacy.keep_recipients is False
    assert settings.privacy.hash_key is not None
    assert settings.privacy.hash_key.get_secret_value() == environ["EVIL"]
    assert settings.metrics.username == "shop.x"
    assert settings.metrics.password is not None
    assert settings.metrics.password.get_secret_value() == "pq"


@pytest.mark.parametrize(
    ("written", "read"),
    [("a${EMPTY:-b}c", "abc"), ("$${d}", "${d}"), ("$x", "$x"), ("${SET}${SET}", "vv"), ("${SET:-w}", "v")],
)  # fmt: skip
def test_a_reference_is_replaced(file: Path, written: str, read: str) -> None:
    settings = loaded(
        file, f"metrics: {{username: '{written}', password: secret}}", {"SET": "v", "EMPTY": ""}
    )
    assert settings.metrics.username == read


@pytest.mark.parametrize("written", ["${}", "${1A}", "${A", "${A:b}", "${A-b}"])
def test_a_broken_reference_is_a_mistake(file: Path, written: str) -> None:
    (told,) = mistakes(file, f"data_dir: '{written}'", {"A": "x"})
    assert told.startswith("data_dir: expected ${NAME} or ${NAME:-default}")


def test_an_unset_variable_is_a_mistake_that_names_it(file: Path) -> None:
    (told,) = mistakes(file, "kafka: {bootstrap_servers: '${BROKERS}'}")
    assert told.startswith("kafka.bootstrap_servers: expected the environment variable BROKERS")
    assert told.endswith("or ${BROKERS:-default}")


def test_the_hash_key_comes_from_its_variable_which_may_be_unset(file: Path) -> None:
    written = "privacy: {hash_key: '${MAILSTREAM_HASH_KEY}'}"
    for text in (written, "", "privacy: {}"):
        settings = loaded(file, text, {"MAILSTREAM_HASH_KEY": "from the variable"})
        assert settings.privacy.hash_key is not None
        assert settings.privacy.hash_key.get_secret_value() == "from the variable"
        assert loaded(file, text, {}).privacy.hash_key is None
        assert loaded(file, text, {"MAILSTREAM_HASH_KEY": ""}).privacy.hash_key is None
    assert len(mistakes(file, "privacy: {hash_key: '${OTHER}'}")) == 1


def test_a_secret_may_stand_in_a_file(file: Path) -> None:
    (file.parent / "pw").write_text("from the file\n")
    (file.parent / "key").write_text("mta1-key\r\n")
    settings = loaded(
        file,
        """
        privacy: {hash_key_file: pw}
        metrics: {username: joe, password_file: "${FILE}"}
        ingest: {api_keys: [{name: mta1, key_file: key}]}
        """,
        {"FILE": str(file.parent / "pw"), "MAILSTREAM_HASH_KEY": "not this"},
    )
    assert settings.privacy.hash_key is not None
    assert settings.privacy.hash_key.get_secret_value() == "from the file"
    assert settings.metrics.password is not None
    assert settings.metrics.password.get_secret_value() == "from the file"
    assert settings.ingest.api_keys[0].key.get_secret_value() == "mta1-key"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password_file: pw, password: x", "metrics.password_file: expected password or password_file, not both"),
        ("password_file: none", "metrics.password_file: expected the path of a file that holds the secret: No such file or directory"),
        ("password_file: empty", "metrics.password: expected text that is not empty"),
        ("password_file: binary", "metrics.password_file: expected the path of a file that holds the secret: not a text file of at most 64 KiB"),
        ("password_file: [pw]", "metrics.password_file: expected the path of a file that holds the secret: not a text file of at most 64 KiB"),
    ],
)  # fmt: skip
def test_a_secret_file_that_cannot_be_used_is_a_mistake(
    file: Path, text: str, expected: str
) -> None:
    (file.parent / "pw").write_text("secret")
    (file.parent / "empty").write_text("\n")
    (file.parent / "binary").write_bytes(b"\xff\xfe")
    assert mistakes(file, f"metrics: {{username: joe, {text}}}") == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kafka: {}\nkafka: {}", "line 2: the key kafka stands twice"),
        ("topics:\n  prefix: a.\n  prefix: b.", "line 3: the key prefix stands twice"),
        ("1: 2", "line 1: a key must be text; quote it"),
        ("- a", "expected keys with values at the top"),
        ("text", "expected keys with values at the top"),
        ("!!python/object:os.system {}", "line 1, column 1: is not YAML (could not determine a constructor for the tag); quote a value that holds special characters"),
        ("a: *hunter2", "line 1, column 4: is not YAML (found undefined alias); quote a value that holds special characters"),
        ("a: !!int hunter2", "holds a value that YAML cannot read"),
        ("a: " + "[" * 5000, "is nested too deeply"),
        ("a: &a [*a]", "is nested too deeply or holds too many values"),
    ],
)  # fmt: skip
def test_what_is_no_configuration_is_told_without_its_text(
    file: Path, text: str, expected: str
) -> None:
    (told,) = mistakes(file, text)
    assert told == expected


def test_aliases_of_aliases_are_bounded(file: Path) -> None:
    text = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
    )
    assert mistakes(file, text) == ["is nested too deeply or holds too many values"]


def test_bytes_that_are_no_text_are_told(file: Path) -> None:
    for raw, expected in (
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"a: \x00", "holds a character that YAML does not allow"),
        (b"a" * (1 << 21), "is longer than 1048576 bytes"),
    ):
        file.write_bytes(raw)
        with pytest.raises(ConfigError) as caught:
            load(file, {})
        assert caught.value.mistakes == (f"{file}: {expected}",)


def test_yaml_reads_nothing_but_plain_values(file: Path) -> None:
    settings = loaded(file, "expected_origins: [2001-01-01, yes, on, 12:30:00, 0x10, 1e]")
    assert settings.expected_origins == ("2001-01-01", "yes", "on", "12:30:00", "0x10", "1e")
