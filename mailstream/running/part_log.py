"""The log file of one part of ``mailstream run``: bounded in size, its important lines surfaced."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO, Any, Final

import orjson

LIMIT_BYTES: Final = 20 << 20
"""A larger file is moved aside as ``<name>.log.1``; there are never more than these two."""
MOST_BYTES: Final = 1 << 20
"""Read at a time: a part that writes faster loses the surfacing of lines, not the lines."""

_IMPORTANT: Final = frozenset({"warning", "error", "critical"})
_HEALS_ITSELF: Final = "aiokafka"
"""Its loggers call every step of a reconnect an error; what matters of it, our own loggers say."""
_SHOWN_ELSEWHERE: Final = frozenset(
    {"time", "level", "message", "logger", "component", "exception"}
)


class PartLog:
    """One file, written by the part itself and followed by its supervisor."""

    def __init__(self, path: Path) -> None:
        """Follow *path* from its present end."""
        self.path = path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._read_to = self._size()
        self._partial = b""

    def open(self) -> IO[bytes]:
        """Return the file for a part's output.  It must append: the file may be emptied meanwhile."""
        return self.path.open("ab", buffering=0)

    def important(self) -> list[str]:
        """Return warnings and errors written since the last call, as sentences."""
        return [text for line in self._fresh() if (text := _important(line)) is not None]

    def last_words(self) -> str:
        """Return the last line that says something, such as an exception's."""
        lines = self._read(max(0, self._size() - 8192)).decode(errors="replace").splitlines()
        line = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        fields = _fields(line.encode())
        return _sentence(fields) if fields else line.strip()[:500]

    def trim(self) -> None:
        """Keep the file bounded: copy it aside and empty it, while the part goes on writing."""
        if self._size() > LIMIT_BYTES:
            shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
            with self.path.open("r+b") as file:
                file.truncate(0)
            self._read_to, self._partial = 0, b""

    def _fresh(self) -> list[bytes]:
        size = self._size()
        if size < self._read_to:
            self._read_to, self._partial = 0, b""
        if size - self._read_to > MOST_BYTES:
            self._read_to, self._partial = size - MOST_BYTES, b""
        fresh = self._read(self._read_to)
        self._read_to += len(fresh)
        *lines, self._partial = (self._partial + fresh).split(b"\n")
        return lines

    def _read(self, start: int) -> bytes:
        if not self.path.exists():  # not written yet, or tidied away by the operator
            return b""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(MOST_BYTES)

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def _important(line: bytes) -> str | None:
    fields = _fields(line)
    foreign = str(fields.get("logger", "")).partition(".")[0] == _HEALS_ITSELF
    return _sentence(fields) if fields.get("level") in _IMPORTANT and not foreign else None


def _fields(line: bytes) -> dict[str, Any]:
    """Return the fields of a log line (see ``pipeline.kit.log``); none for any other text."""
    if not line.startswith(b"{"):
        return {}
    try:
        fields: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return fields


def _sentence(fields: dict[str, Any]) -> str:
    rest = [f"{name}={value}" for name, value in fields.items() if name not in _SHOWN_ELSEWHERE]
    return f"{fields.get('message', '')}{' (' + ', '.join(rest) + ')' if rest else ''}"
