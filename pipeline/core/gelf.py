"""GELF as the programs around WildDuck send it: what a message is about, and how its fields read.

The emitters are the WildDuck plugins of ZoneMTA (``_component`` mta) and Haraka (mx), and WildDuck
itself (wildduck).  What happened stands in brackets in ``short_message``; the npm client leaves
out every field whose value is 0, empty, false or null.  Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from pipeline.core.errors import Reason, RecordError

SOURCE: Final = "gelf"
LOGIN_SOURCE: Final = "wildduck"
FEED: Final = "gelf"

MTA: Final = "mta"
MX: Final = "mx"
WILDDUCK: Final = "wildduck"

MTA_WORDS: Final = frozenset(
    {"QUEUED", "ACCEPTED", "DEFERRED", "REJECTED", "NOQUEUE", "DELETED", "DROP", "RCPT TO"}
)
"""What the MTA's messages about mail say in brackets."""
MX_WORDS: Final = frozenset({"DENY", "PROCESS", "QUEUED", "QUEUED FORWARD", "QUEUED AUTOREPLY"})

UNKNOWN_NAME: Final = "_username_hash"
"""Our field in place of ``_username`` where a login's name is no known account's."""

_WORD: Final = re.compile(r"(?:[A-Z]+ )?\[([^\]:]{1,40})")
_ACCOUNT_ID: Final = re.compile(r"[0-9a-f]{24}")


def decode(value: bytes) -> dict[str, Any]:
    """Return the fields of a message.

    Raises:
        RecordError: It is not a JSON object.
    """
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise RecordError(Reason.MALFORMED, "not JSON") from exc
    if not isinstance(fields, dict):
        raise RecordError(Reason.MALFORMED, "not a JSON object")
    return fields


def word_of(message: Mapping[str, Any]) -> str:
    """Return what ``short_message`` says in brackets, up to a colon, in upper case; or nothing.

    The field ``_mail_action`` is no substitute: ``dropped`` stands for three different things.
    """
    text = message.get("short_message")
    found = _WORD.match(text) if isinstance(text, str) else None
    return found[1].upper() if found is not None else ""


def is_login(message: Mapping[str, Any]) -> bool:
    """Tell whether it is about an attempt to log in; a failed one has no ``_mail_action``."""
    return "_auth_result" in message or "_auth_ok" in message or "_auth_fail" in message


def is_account_id(text: str) -> bool:
    """Tell whether *text* is an id of WildDuck's, not a name."""
    return _ACCOUNT_ID.fullmatch(text) is not None


def text(message: Mapping[str, Any], name: str) -> str | None:
    """Return a field as text; None if it is absent, empty or no single value."""
    value = message.get(name)
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int | float) else None


def number(message: Mapping[str, Any], name: str) -> float | None:
    """Return a field as a number, also if it is written as text; None if it is none."""
    value = message.get(name)
    if isinstance(value, str):
        try:
            written = float(value)
        except ValueError:
            return None
        return written if math.isfinite(written) else None
    return value if isinstance(value, int | float) else None


def whole(message: Mapping[str, Any], name: str) -> int | None:
    """Return a field as a whole number, or None."""
    value = number(message, name)
    return int(value) if value is not None and value == value // 1 else None


def event_time(message: Mapping[str, Any], received_ms: int) -> str | float:
    """Return when it happened: seconds since the epoch; without a timestamp when it came."""
    seconds = number(message, "timestamp")
    return seconds if seconds is not None else text(message, "timestamp") or received_ms / 1000
