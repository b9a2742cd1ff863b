"""Records as rows: pure, one function per topic."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from consumers.panes import pane_of
from consumers.postgres.tables import (
    EVENT_FIELDS,
    EVENTS,
    HEARTBEATS,
    METRICS,
    OTHER_METRICS,
    PANES,
    Table,
)
from consumers.sinks.base import Item
from pipeline.core.batch import header
from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import MailEvent
from pipeline.core.observation import HEARTBEAT, OBSERVATION, heartbeat, observation
from pipeline.core.timestamp import MAX_MS, MIN_MS, epoch_ms, rfc3339

_NUL: Final = "\0"
_MAY_HOLD_NUL: Final = b"\\u0000"
_INT4: Final = (1 << 31) - 1
_INT8: Final = (1 << 63) - 1
_MOST: Final = {"attempt": _INT4, "response_code": _INT4, "size_bytes": _INT8, "recipients": _INT8}
"""Told here rather than by PostgreSQL, where finding one such record costs milliseconds."""
_EXTRA: Final = tuple(
    name for name in MailEvent.__struct_fields__ if name not in EVENT_FIELDS and name != "timestamp"
)
"""Fields that have no column of their own."""
_columns: Final = attrgetter(*EVENT_FIELDS)
_SERIES: Final = re.compile(r"([^{]+)(?:\{(.*)\})?", re.DOTALL)
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)=("(?:[^"\\]|\\.)*")(?:,|\Z)')


class Row(NamedTuple):
    """One row."""

    table: Table
    time_ms: int
    values: tuple[Any, ...]
    """In the order of the table's columns; JSON as text."""


_event: Final = msgspec.json.Decoder(MailEvent).decode


def rows_of(topic: str, item: Item) -> list[Row]:
    """Return the rows that a record of *topic* (without prefix) becomes.

    Raises:
        RecordError: It is not what the topic holds, or holds what PostgreSQL has no place for.
    """
    try:
        rows = list(_MAKERS[topic](item))
    except msgspec.ValidationError as exc:
        missing = "missing required field" in str(exc)
        raise RecordError(
            Reason.MISSING_FIELD if missing else Reason.INVALID_FIELD, str(exc)
        ) from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
        raise RecordError(Reason.MALFORMED, str(exc)) from exc
    if _MAY_HOLD_NUL in item.value and any(map(_holds_nul, rows)):
        raise RecordError(Reason.INVALID_FIELD, "a text holds the character U+0000")
    return rows


def _holds_nul(row: Row) -> bool:
    return any(isinstance(one, str) and _NUL in one for one in row.values)


def _event_rows(item: Item) -> Iterator[Row]:
    event = _event(item.value)
    for name in ("timestamp", "event_type", "source", "event_id"):
        if getattr(event, name) is None:
            raise RecordError(Reason.MISSING_FIELD, f"{name}: it is missing")
    time_ms = epoch_ms(event.timestamp or "")
    if event.received is not None:
        epoch_ms(event.received)
    for name, most in _MOST.items():
        number = getattr(event, name)
        if number is not None and not -most <= number <= most:
            raise RecordError(Reason.INVALID_FIELD, f"{name}: it is out of range")
    extra = {name: one for name in _EXTRA if (one := getattr(event, name)) is not None}
    columns = _columns(event)
    yield Row(EVENTS, time_ms, (event.timestamp, *columns, _json(extra) if extra else None))


def _pane_rows(item: Item) -> Iterator[Row]:
    pane = pane_of(item.value)
    time_ms = pane.start_ms
    key = bytes(pane.key).decode()
    if not key.startswith("["):
        raise RecordError(Reason.INVALID_FIELD, "key: expected a list")
    yield Row(
        PANES,
        time_ms,
        (
            rfc3339(time_ms),
            pane.length_s,
            pane.family,
            key,
            pane.event_type,
            pane.count,
            pane.recipients,
            pane.bytes,
            pane.delivery_ms_sum,
            pane.delivery_ms_buckets,
            pane.partial,
        ),
    )


def _node_rows(item: Item) -> Iterator[Row]:
    feed = header(item.headers, "feed")
    if feed == OBSERVATION:
        yield from _observation_rows(orjson.loads(item.value))
    elif feed == HEARTBEAT:
        beat = heartbeat(orjson.loads(item.value))
        at = header(item.headers, "received") or b""
        given = int(at) if at.isdigit() and len(at) < 16 else item.time_ms
        time_ms = min(max(given, MIN_MS), MAX_MS)
        rest = [getattr(beat, name) for name in HEARTBEATS.columns[1:]]
        yield Row(HEARTBEATS, time_ms, (rfc3339(time_ms), *rest))
    else:
        raise RecordError(Reason.MISSING_HEADER, "feed: expected observation or heartbeat")


def _observation_rows(value: Any) -> Iterator[Row]:
    found = observation(value)
    table = METRICS.get(found.what)
    time_ms = epoch_ms(found.at)
    for name, number in found.values.items():
        metric, labels = _series(name)
        values = (found.at, found.node, metric, labels, number)
        if table is not None:
            yield Row(table, time_ms, values)
        else:
            yield Row(OTHER_METRICS, time_ms, (found.what, *values))


@lru_cache(maxsize=65_536)
def _series(name: str) -> tuple[str, str]:
    """Return the metric of a series, and its labels as JSON; a text that is none is all metric."""
    match = _SERIES.fullmatch(name)
    if match is None or not match[2]:
        return name.removesuffix("{}"), "{}"
    labels, at = {}, 0
    while at < len(match[2]):
        pair = _LABEL.match(match[2], at)
        if pair is None:
            return name, "{}"
        try:
            labels[pair[1]] = json.loads(pair[2])
        except json.JSONDecodeError:
            return name, "{}"
        at = pair.end()
    return match[1], _json(labels)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


_MAKERS: Final[dict[str, Callable[[Item], Iterator[Row]]]] = {
    "events": _event_rows,
    "panes": _pane_rows,
    "raw.node": _node_rows,
}
TOPICS: Final = tuple(_MAKERS)
