"""Logs: stdlib records rendered by structlog, for people on a terminal, as JSON lines elsewhere.

Messages are constant sentences, what varies goes into ``extra``.  :func:`bound` adds fields to
every line of a task.  Warnings and errors are limited to one line per (logger, message, reason)
in 10 s, which says how many were held back.
"""

from __future__ import annotations

import json as stdlib_json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson
import structlog
from structlog.typing import EventDict, Processor

WINDOW_S: Final = 10.0
_MAX_KINDS: Final = 4096
"""Bounds the limiter's memory; loggers with variable messages are foreign."""

_QUIETER: Final = {
    "aiokafka": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpx": logging.WARNING,
    # These report every step of a rebalance or reconnect as an error, although it heals itself.
    "aiokafka.consumer.group_coordinator": logging.ERROR,
    "aiokafka.cluster": logging.ERROR,
    "aiokafka.conn": logging.ERROR,
}


class RateLimit(logging.Filter):
    """Lets one warning or error of a kind through per :data:`WINDOW_S`, and counts the rest.

    A kind is (logger, message before its arguments, field ``reason``, field ``component``).
    """

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__()
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the line goes out; a line after a pause carries ``held_back``."""
        if record.levelno < logging.WARNING:
            return True
        fields = record.__dict__
        context = structlog.contextvars.get_contextvars()
        component = fields.get("component", context.get("component", ""))
        kind = (record.name, str(record.msg), str(fields.get("reason", "")), str(component))
        last, held = self._seen.get(kind, (float("-inf"), 0))
        if 0 <= record.created - last < WINDOW_S:
            self._seen[kind] = (last, held + 1)
            return False
        if len(self._seen) >= _MAX_KINDS:
            self._seen.clear()
        self._seen[kind] = (record.created, 0)
        if held:
            record.held_back = held
        return True


class Milder(logging.Filter):
    """Shows the errors of aiokafka as warnings: it tries again by itself, and an error needs a hand."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every line through."""
        if record.levelno == logging.ERROR and record.name.partition(".")[0] == "aiokafka":
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class _Stderr(logging.Handler):
    """Writes to what ``sys.stderr`` is at the time, so that a redirection later counts too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace").decode()
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            self.handleError(record)


def _named(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Put time, level and message first, under the names that collectors expect."""
    first = {"time": event.pop("time"), "level": event.pop("level"), "message": event.pop("event")}
    return {**first, **event}


def _json_line(value: Any, **_: Any) -> str:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # lone surrogates, integers above 64 bits
        return stdlib_json.dumps(value, default=str)


def setup(
    component: str,
    *,
    json: bool | None = None,
    level: int = logging.INFO,
) -> None:
    """Send every log line of this process to stderr; may be called again.

    Args:
        component: What this process is; a field of every line.
        json: One JSON object a line, or lines for people; None: JSON unless on a terminal.
        level: The lowest level of our own loggers that is shown.
    """
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    ending: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        ending += [
            structlog.processors.format_exc_info,
            _named,
            structlog.processors.JSONRenderer(serializer=_json_line),
        ]
    else:
        colors = sys.stderr.isatty()
        ending.append(structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time"))
    output = _Stderr()
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=ending)
    )
    output.addFilter(Milder())
    output.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level)
    for name, quieter in _QUIETER.items():
        logging.getLogger(name).setLevel(quieter)
    structlog.contextvars.bind_contextvars(component=component)


@contextmanager
def bound(**fields: str | int) -> Iterator[None]:
    """Add *fields*, such as ``partition``, to every line of the block and of tasks begun in it."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield
