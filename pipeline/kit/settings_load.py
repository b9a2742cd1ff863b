"""Reading the configuration: YAML, environment variables, secrets in files, and every mistake.

The text is parsed first and variables are expanded inside the strings that came out, so that no
secret can add a key.  All mistakes are collected: values that cannot be used are reported, left
out, and the rest is checked again.  A message names file, key and what was expected, never the
value given, which may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.core.errors import ConfigError
from pipeline.kit.settings import HASH_KEY_VARIABLE, Settings
from pipeline.kit.settings_checks import mistakes_between
from pipeline.kit.settings_mistakes import mistake_of
from pipeline.kit.settings_shape import (
    FILE_SUFFIX,
    Place,
    dotted,
    is_path,
    is_secret,
    is_section,
    model_in,
)
from pipeline.kit.settings_yaml import MAX_BYTES, read_yaml
from pipeline.kit.values import FROM_FILE

CONFIG_VARIABLE: Final = "MAILSTREAM_CONFIG"
DEFAULT_FILE: Final = Path("mailstream.yaml")
BUILT_IN: Final = "built-in defaults"
_MAX_SECRET_BYTES: Final = 64 << 10
_HASH_KEY_PLACE: Final = ("privacy", "hash_key")
_HASH_KEY_REFERENCE: Final = f"${{{HASH_KEY_VARIABLE}}}"

_REFERENCE: Final = re.compile(
    r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})?", re.ASCII
)
_WHOLE_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_WORDS: Final = {"true": True, "false": False}


@dataclass
class _Reading:
    """One configuration while it is read."""

    source: str
    environ: Mapping[str, str]
    folder: Path
    mistakes: list[str] = field(default_factory=list)
    dropped: set[Place] = field(default_factory=set)
    """Where an unusable value was left out."""
    expanded: set[Place] = field(default_factory=set)
    """Where a variable gave (part of) the value."""
    retyped: set[Place] = field(default_factory=set)
    """Where such a text was read as a number or truth value."""
    unset: set[Place] = field(default_factory=set)
    """Where a variable or a secret's file was missing: already reported."""

    def mistake(self, place: Place, sentence: str) -> None:
        text = f"{self.source}: {dotted(place)}: {sentence}"
        if text not in self.mistakes:
            self.mistakes.append(text)

    def drop(self, tree: dict[str, Any], place: Place) -> None:
        """Take the nearest named value at *place* out of *tree*."""
        names = tuple(name for name in place if isinstance(name, str))
        if any(names[:length] in self.dropped for length in range(len(names) + 1)):
            return  # another mistake in the same list
        for length in range(len(names), 0, -1):
            if _take_out(tree, names[:length]):
                self.dropped.add(names[:length])
                return
        tree.clear()
        self.dropped.add(())


def _take_out(tree: Any, names: Place) -> bool:
    for name in names[:-1]:
        tree = tree.get(name) if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or names[-1] not in tree:
        return False
    del tree[names[-1]]
    return True


def find_config(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file that configures: *path*, ``$MAILSTREAM_CONFIG``, ``./mailstream.yaml``, none."""
    if path is not None:
        return path
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings of *path*, else of ``$MAILSTREAM_CONFIG``, ``./mailstream.yaml`` or none.

    Raises:
        ConfigError: All mistakes, each naming file, key and what was expected.
    """
    found = find_config(path, environ)
    folder = found.parent.absolute() if found is not None else Path.cwd()
    reading = _Reading(str(found) if found is not None else BUILT_IN, environ, folder)
    tree = {} if found is None else _read(reading, found)
    _default_variables(tree)
    tree = _expand(reading, tree, ())
    _resolve(reading, Settings, tree, ())
    settings = _validated(reading, tree)
    for conflict in mistakes_between(settings):
        if not any(_is_dropped(reading, key) for key in conflict.keys):
            reading.mistakes.append(f"{reading.source}: {conflict.keys[0]}: {conflict.sentence}")
    if reading.mistakes:
        raise ConfigError(reading.mistakes)
    return settings


def _read(reading: _Reading, path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a path"
        raise ConfigError([f"{reading.source}: the file cannot be read: {reason}"]) from exc
    try:
        tree, mistakes = read_yaml(raw)
    except ConfigError as exc:
        raise ConfigError([f"{reading.source}: {text}" for text in exc.mistakes]) from exc
    reading.mistakes += [f"{reading.source}: {text}" for text in mistakes]
    return tree


def _default_variables(tree: dict[str, Any]) -> None:
    """Put in the one reference of the built-in defaults, unless the file says otherwise."""
    privacy = tree.setdefault("privacy", {})
    if privacy is None:
        privacy = tree["privacy"] = {}
    if isinstance(privacy, dict) and not {"hash_key", "hash_key" + FILE_SUFFIX} & privacy.keys():
        privacy["hash_key"] = _HASH_KEY_REFERENCE


def _expand(reading: _Reading, value: Any, place: Place) -> Any:
    if isinstance(value, dict):
        return {key: _expand(reading, item, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(reading, item, (*place, i)) for i, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    if place == _HASH_KEY_PLACE and value == _HASH_KEY_REFERENCE:
        return reading.environ.get(HASH_KEY_VARIABLE) or None
    reading.expanded.add(place)
    return _REFERENCE.sub(lambda match: _referred(reading, match, place), value)


def _referred(reading: _Reading, match: re.Match[str], place: Place) -> str:
    name, default = match[1], match[2]
    if match[0] == "$${":
        return "${"
    if name is not None and default is not None:
        return reading.environ.get(name) or default
    if name is not None and name in reading.environ:
        return reading.environ[name]
    if name is None:
        reading.mistake(place, "expected ${NAME} or ${NAME:-default}; $${ stands for a plain ${")
    else:
        reading.mistake(
            place, f"expected the environment variable {name} to be set, or ${{{name}:-default}}"
        )
    reading.unset.add(place)
    return ""


def _resolve(reading: _Reading, model: type[BaseModel], tree: dict[str, Any], at: Place) -> None:
    """Read ``x_file`` of every secret ``x``, make paths absolute, and empty sections sections."""
    for name, info in model.model_fields.items():
        place = (*at, name)
        below = model_in(info.annotation)
        if is_secret(info.annotation):
            _secret_file(reading, tree, place)
        elif is_path(info.annotation) and (name in tree or info.default is not None):
            path = tree.get(name, info.default)
            if isinstance(path, str | Path) and str(path) not in ("", "."):
                tree[name] = str(reading.folder / path)
        elif below is not None:
            if is_section(info.annotation) and tree.get(name, ...) is None:
                tree[name] = {}
            for item_place, item in _below(tree.get(name), place):
                _resolve(reading, below, item, item_place)


def _below(value: Any, place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    if isinstance(value, dict):
        yield place, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield (*place, index), item


def _secret_file(reading: _Reading, tree: dict[str, Any], place: Place) -> None:
    name = str(place[-1])
    file_name = name + FILE_SUFFIX
    if file_name not in tree:
        return
    file_place = (*place[:-1], file_name)
    path = tree.pop(file_name)
    if path is None:
        return
    if tree.get(name) is not None:
        reading.mistake(file_place, f"expected {name} or {file_name}, not both")
        return
    try:
        tree[name] = _secret_text(reading.folder / path)
    except (OSError, ValueError, TypeError) as exc:
        reason = getattr(exc, "strerror", None) or "not a text file of at most 64 KiB"
        reading.mistake(file_place, f"expected the path of a file that holds the secret: {reason}")
        reading.unset.add(place)
        tree[name] = None


def _secret_text(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_MAX_SECRET_BYTES + 1)
    if len(raw) > _MAX_SECRET_BYTES:
        raise ValueError("too long")
    return raw.decode("utf-8").rstrip("\r\n")


def _validated(reading: _Reading, tree: dict[str, Any]) -> Settings:
    """Return the settings without what cannot be used, having reported it."""
    for place in reading.unset:
        reading.drop(tree, place)
    wrong: list[Place] = []
    while True:
        try:
            return Settings.model_validate(tree, context={FROM_FILE: True})
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
        for error in [error for error in errors if not _retyped(reading, tree, error)]:
            if error["type"] == "missing" and error["loc"] in reading.dropped:
                reading.drop(tree, error["loc"][:-1])  # its section can do nothing without it
                continue
            place, sentence = mistake_of(Settings, error)
            # A list that is short because its items were dropped is no mistake of its own.
            if error["type"] != "too_short" or all(one[: len(place)] != place for one in wrong):
                reading.mistake(place, sentence)
            wrong.append(place)
            reading.drop(tree, place)


def _retyped(reading: _Reading, tree: Any, error: ErrorDetails) -> bool:
    """Read the text that variables gave as a number or truth value where one is expected."""
    place, given = error["loc"], error["input"]
    if place not in reading.expanded or place in reading.retyped or not isinstance(given, str):
        return False
    value: int | bool | None = None
    if error["type"] == "int_type" and _WHOLE_NUMBER.fullmatch(given):
        value = int(given)
    elif error["type"] == "bool_type":
        value = _WORDS.get(given.lower())
    if value is None:
        return False
    for part in place[:-1]:
        tree = tree[part]
    tree[place[-1]] = value
    reading.retyped.add(place)
    return True


def _is_dropped(reading: _Reading, key: str) -> bool:
    """Tell whether *key*, or something in or above it, was left out: then it proves nothing."""
    parts = tuple(key.partition("[")[0].split("."))
    return any(parts[: len(place)] == place[: len(parts)] for place in reading.dropped)
