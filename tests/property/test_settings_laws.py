"""Laws of the configuration: any input gives settings or all its mistakes, and no secret is told."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.kit.settings import Settings
from pipeline.kit.settings_doc import options
from pipeline.kit.settings_load import load
from pipeline.kit.values import Address, duration_ms, duration_text

KEYS = sorted({option.key.split(".")[-1].removesuffix("[]") for option in options()})
SECTIONS = sorted(Settings.model_fields)
SECRET = "hunter2hunter2"

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["10s", "1m", "127.0.0.1:0", "10.0.0.0/8", "mail.", "${X}", "${X:-1}", "${"])
)
NAMES = st.sampled_from([*KEYS, *(f"{key}_file" for key in KEYS)]) | st.text(max_size=10)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)
CONFIGS = st.dictionaries(st.sampled_from(SECTIONS) | NAMES, TREES, max_size=8)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def attempt(folder: Path, raw: bytes, environ: dict[str, str]) -> Settings | ConfigError:
    file = folder / "mailstream.yaml"
    file.write_bytes(raw)
    try:
        return load(file, environ)
    except ConfigError as exc:
        return exc


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode()))
@example(b"a: !!timestamp x")
@example(b"a: !!bool x")
@example(b"a: !!float x")
@example(b"a: !!binary x")
@example(b"? {a: b}\n: c")
@example(b"? [a]\n: c")
@example(b"<<: 3")
@example(b"<<: [{kafka: 1}]")
@example(b"a: " + b"9" * 5000)
@example(b'"\\ud800": "\\ud800"')
@example(b'kafka: {sasl_username: "\\ud800"}')
@example(b"--- a\n--- b")
@example(b"%YAML 3.0\n--- {}")
@example(b"data_dir: " + b"x" * 5000)
@example(b'data_dir: "a\\0b"')
@example(b"privacy: {hash_key_file: /}")
def test_any_bytes_are_settings_or_a_configuration_error(folder: Path, raw: bytes) -> None:
    result = attempt(folder, raw, {})
    if isinstance(result, ConfigError):
        assert result.mistakes
        assert all("mailstream.yaml: " in mistake for mistake in result.mistakes)
        assert all(mistake.isprintable() for mistake in result.mistakes)


@given(CONFIGS)
def test_any_tree_is_settings_or_a_configuration_error(folder: Path, tree: dict[str, Any]) -> None:
    result = attempt(folder, yaml.safe_dump(tree).encode(), {"X": "1"})
    assert isinstance(result, Settings) or result.mistakes


def _places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*place, key))


@given(CONFIGS.filter(bool), st.data(), st.booleans())
def test_a_value_in_any_place_is_never_repeated(
    folder: Path, tree: dict[str, Any], draw: st.DataObject, by_variable: bool
) -> None:
    place = draw.draw(st.sampled_from(list(_places(tree))))
    above: Any = tree
    for key in place[:-1]:
        above = above[key]
    shape = draw.draw(st.sampled_from(["{}", "x{}", "{}:80", "{}\n", "{}s"]))
    above[place[-1]] = shape.format("${SECRET}" if by_variable else SECRET)
    result = attempt(folder, yaml.safe_dump(tree).encode(), {"SECRET": SECRET})
    if isinstance(result, ConfigError):
        assert SECRET not in str(result)


@given(st.integers(0, 10**12 - 1))
def test_a_duration_is_read_as_it_is_written(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_is_read_as_it_is_written(ip: Any, port: int) -> None:
    address = Address(str(ip), port)
    assert Address.parse(str(address)) == address
    assert address.is_loopback == ip.is_loopback


@given(st.text(max_size=40) | st.from_regex(r"[\[\]:0-9a-f.]{0,20}:[0-9]{1,6}", fullmatch=True))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65535
    assert address.host
