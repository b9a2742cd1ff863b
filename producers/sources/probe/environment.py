"""Variables of the probe's file: a ``.env`` beside it, and ``${NAME}`` in its values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.core.errors import ConfigError

NAME: Final = ".env"
_MOST_BYTES: Final = 1 << 20
_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*\Z", re.ASCII)
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}", re.ASCII)
_COMMENT: Final = re.compile(r"\s+#.*\Z")
_QUOTED: Final = re.compile(r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)")\s*(?:#.*)?\Z""")
_ESCAPES: Final = {r"\n": "\n", r"\t": "\t", r"\"": '"', r"\\": "\\", r"\$": "$"}
_ESCAPE: Final = re.compile(r"\\[nt\"\\$]")

Place = tuple[str, ...]


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a ``.env`` file; none where it is not there.

    Raises:
        ConfigError: It cannot be read, or a line of it is no assignment.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8"
        raise ConfigError([f"{path}: the file cannot be read: {reason}"]) from exc
    found: dict[str, str] = {}
    mistakes = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            mistakes.append(f"{path}: line {number}: expected NAME=value")
        else:
            found[match[1]] = _unquoted(match[2])
    if mistakes:
        raise ConfigError(mistakes)
    return found


def _unquoted(text: str) -> str:
    match = _QUOTED.match(text)
    if match is None:
        return "" if text.startswith("#") else _COMMENT.sub("", text)
    if match[1] is not None:
        return match[1]
    return _ESCAPE.sub(lambda escape: _ESCAPES[escape[0]], match[2])


class Expansion:
    """Values with the variables in them put in; remembers which are unset and what was secret."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Expand from *variables*."""
        self._variables = variables
        self.unset: dict[Place, str] = {}
        """Names of variables that are not set, by where they stand."""
        self.names: dict[Place, str] = {}
        """The first variable in each value."""

    def of(self, value: Any, place: Place = ()) -> Any:
        """Return *value* with every ``${NAME}`` in it replaced, whatever it is made of."""
        if isinstance(value, dict):
            return {key: self.of(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.of(item, (*place, str(number))) for number, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        return _REFERENCE.sub(lambda match: self._referred(match, place), value)

    def _referred(self, match: re.Match[str], place: Place) -> str:
        name, default = match[1], match[2]
        self.names.setdefault(place, name)
        given = self._variables.get(name)
        if given is not None and (given or default is None):
            return given
        if default is None:
            self.unset.setdefault(place, name)
        return default or ""
