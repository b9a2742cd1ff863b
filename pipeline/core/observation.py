"""What ``raw.node`` holds: observations of machines and programs, and heartbeats of senders.

The header ``feed`` of a record says which of the two it is.  An observation is what one look at
one target found: numbers by series, named as ``/metrics`` names them (``mail_redis_keys{db="0"}``)
but without the label ``node``, which the record has once.  There are no texts but the names of
series, and those hold no addresses of mail.  Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import RESERVED_VALUES
from pipeline.core.timestamp import epoch_ms, rfc3339

OBSERVATION: Final = b"observation"
HEARTBEAT: Final = b"heartbeat"
"""Values of the header ``feed``."""

MAX_NUMBER: Final = 1 << 53
"""The largest whole number that every JSON reader keeps exactly."""
MAX_VALUE: Final = 1e300
MAX_SERIES: Final = 5_000
"""Most numbers in one observation."""
_MAX_SERIES_NAME: Final = 512

_SERIES: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:.]*(?:\{[^\x00-\x1f@]*\})?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
Value = (
    Annotated[int, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
    | Annotated[float, Meta(ge=-MAX_VALUE, le=MAX_VALUE)]
)


class Observation(msgspec.Struct, kw_only=True, gc=False):
    """What one look at one target found."""

    node: Name
    """The machine or member that it is about; the record's key."""
    what: Word
    """What was looked at: ``system``, ``zonemta``, ``mongodb``, ``redis``, ``wildduck``, …"""
    at: str | int | float
    """When, RFC 3339 (as stored: UTC with milliseconds) or seconds since the epoch."""
    values: dict[str, Value]
    """Numbers by series; whatever unit the series' name says."""


class Heartbeat(msgspec.Struct, kw_only=True, gc=False):
    """What a sender says about itself every 15 s."""

    node: Name
    role: Word
    """What kind of sender it is, such as ``zonemta``, ``haraka`` or ``agent``."""
    version: Word
    boot_id: Word
    """A random text, new at each start of the sending process."""
    last_seq: Number
    """The highest number given to an event since that start; the first is 1."""
    buffered: Number
    """Events that wait, in memory and on disk."""
    dropped_total: Number
    """Events given up since that start."""


encode: Final = msgspec.json.Encoder().encode
"""Encode either of them as ``raw.node`` holds it."""

_T = TypeVar("_T", Observation, Heartbeat)


def observation(value: Any) -> Observation:
    """Return the observation that decoded JSON holds, its time as it is stored.

    Raises:
        RecordError: It holds none, or one that is unusable.
    """
    found = _convert(value, Observation)
    _check_texts(found.node, found.what)
    found.at = rfc3339(epoch_ms(found.at))
    if not 0 < len(found.values) <= MAX_SERIES:
        raise RecordError(Reason.INVALID_FIELD, f"values: expected 1 to {MAX_SERIES} of them")
    for name in found.values:
        if not is_series(name):
            raise RecordError(Reason.INVALID_FIELD, "values: a name is not that of a series")
    return found


def is_series(name: str) -> bool:
    """Tell whether an observation may have a number of that name."""
    return len(name) <= _MAX_SERIES_NAME and _SERIES.fullmatch(name) is not None


def heartbeat(value: Any) -> Heartbeat:
    """Return the heartbeat that decoded JSON holds.

    Raises:
        RecordError: It holds none, or one that is unusable.
    """
    found = _convert(value, Heartbeat)
    _check_texts(found.node, found.role, found.version, found.boot_id)
    return found


def _convert(value: Any, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        text = str(exc)
        missing = "missing required field" in text
        raise RecordError(Reason.MISSING_FIELD if missing else Reason.INVALID_FIELD, text) from exc


def _check_texts(*texts: str) -> None:
    for text in texts:
        if _CONTROL.search(text) or "@" in text:
            raise RecordError(
                Reason.INVALID_FIELD, "a name holds a control character or an at sign"
            )
        if text in RESERVED_VALUES:
            raise RecordError(Reason.RESERVED_VALUE, "a name is one that /metrics keeps for itself")


def series(name: str, labels: Mapping[str, str]) -> str:
    """Return the name of a series as ``/metrics`` writes it, labels in order of their names.

    An at sign in a label becomes ``(at)``: names of series hold no addresses.
    """
    if not labels:
        return name
    pairs = ",".join(f"{key}={_quoted(value)}" for key, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}"


def _quoted(value: str) -> str:
    return json.dumps(_CONTROL.sub(" ", value).replace("@", "(at)"), ensure_ascii=False)
