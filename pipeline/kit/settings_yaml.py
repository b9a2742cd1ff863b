"""YAML as configuration: plain values only, every key a text and there once.

PyYAML's safe loader takes the last of two equal keys, turns ``12:30:00`` into seconds and repeats
pieces of the text in its errors; here the first is a mistake, the second is left a text, and an
error names line and column only.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, Final

import yaml

from pipeline.core.errors import ConfigError

MAX_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 16
_MAX_VALUES: Final = 20_000
"""Bounds what aliases of aliases can grow to."""


class _Loader(yaml.SafeLoader):
    """The safe loader without dates and base 60, and with an eye on equal keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.mistakes: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            line = key.start_mark.line + 1
            if name is None or key.tag != "tag:yaml.org,2002:str":
                if key.tag != "tag:yaml.org,2002:merge":
                    self.mistakes.append(f"line {line}: a key must be text; quote it")
            elif name in seen:
                self.mistakes.append(f"line {line}: the key {shown(name)} stands twice")
            else:
                seen.add(name)
        return super().construct_mapping(node, deep)


_LITERAL_TAGS: Final = {
    "tag:yaml.org,2002:null": re.compile(r"~|null|Null|NULL|"),
    "tag:yaml.org,2002:bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,30})"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
    ),
    "tag:yaml.org,2002:merge": re.compile(r"<<"),
}
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in _LITERAL_TAGS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern.pattern})\\Z"), None)


def shown(key: object) -> str:
    """Return *key* as it can stand in a message: printable, on one line, not too long."""
    text = str(key).encode("unicode_escape", "backslashreplace").decode("ascii")
    return text if len(text) <= 64 else text[:61] + "..."


def read_yaml(raw: bytes) -> tuple[dict[str, Any], list[str]]:
    """Return the values of a configuration file, and the mistakes that left them readable.

    Raises:
        ConfigError: Nothing can be read from it; one sentence without the file's name.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError([f"is longer than {MAX_BYTES} bytes"])
    try:
        loader = _Loader(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise ConfigError(["is not UTF-8"]) from exc
    except yaml.reader.ReaderError as exc:
        raise ConfigError(["holds a character that YAML does not allow"]) from exc
    try:
        tree = loader.get_single_data()
    except yaml.MarkedYAMLError as exc:
        raise ConfigError([_where(exc)]) from exc
    except RecursionError as exc:
        raise ConfigError(["is nested too deeply"]) from exc
    # Explicit tags (!!int x, !!timestamp y) make the loader raise what its converters raise.
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as exc:
        raise ConfigError(["holds a value that YAML cannot read"]) from exc
    finally:
        loader.dispose()
    if tree is None:
        return {}, loader.mistakes
    if not isinstance(tree, dict):
        raise ConfigError(["expected keys with values at the top"])
    values = _Copy()
    return values.mapping(tree, 0), loader.mistakes


def _where(exc: yaml.MarkedYAMLError) -> str:
    """Say what is wrong without the pieces of text that PyYAML quotes."""
    problem = re.split(r"['\"]", exc.problem or "", maxsplit=1)[0].strip().rstrip(",")
    mark = exc.problem_mark or exc.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}is not YAML ({problem}); quote a value that holds special characters"


class _Copy:
    """Copies a tree without sharing, so that later steps may change it; bounded in size."""

    def __init__(self) -> None:
        self._values = 0

    def mapping(self, tree: dict[Any, Any], depth: int) -> dict[str, Any]:
        return {
            key: self._value(item, depth + 1) for key, item in tree.items() if isinstance(key, str)
        }

    def _value(self, value: Any, depth: int) -> Any:
        self._values += 1
        if depth > _MAX_DEPTH or self._values > _MAX_VALUES:
            raise ConfigError(["is nested too deeply or holds too many values"])
        if isinstance(value, dict):
            return self.mapping(value, depth)
        if isinstance(value, list):
            return [self._value(item, depth + 1) for item in value]
        return value
