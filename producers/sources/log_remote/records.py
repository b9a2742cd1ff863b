"""Entries of ZoneMTA's log to raw records: which are written, under which id and key, and what of them.

The id is the one that the plugin gives (``plugins/zonemta/events.js``), so an installation that
has both counts nothing twice.  Pure: the time of receipt is a parameter.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

import orjson

from pipeline.core.batch import OutRecord
from pipeline.core.errors import Reason, RecordError
from pipeline.core.topics import MAX_MESSAGE_BYTES
from producers.allow_list import AllowList, Rule, cut
from producers.haul import Haul
from producers.privacy import Privacy
from producers.sources.log_remote.msgpack_js import decode

SOURCE: Final = "zonemta"
FEED: Final = "log_remote"
TOPIC: Final = f"raw.{SOURCE}"

LARGEST_RECORD: Final = MAX_MESSAGE_BYTES // 2
ID_DIGITS: Final = 32
_MOST_ID: Final = 255
_NOBODY: Final = "<>"
"""How some entries write an empty address."""

EVENTS: Final = frozenset(
    {"QUEUED", "ACCEPTED", "DEFERRED", "REJECTED", "NOQUEUE", "DROP", "DELETED"}
)
"""Actions that are events."""

_ALLOWED: Final[AllowList] = {
    **dict.fromkeys(
        [
            "id",
            "seq",
            "action",
            "zone",
            "mx",
            "host",
            "ip",
            "protocol",
            "category",
            "defcount",
            "size",
            "body",
            "interface",
            "transtype",
            "score",
            "message-id",
            "messageId",
        ],
        Rule.KEEP,
    ),
    "from": Rule.SENDER,
    "returnPath": Rule.SENDER,
    "user": Rule.SENDER,
    "to": Rule.RECIPIENTS,
    "recipient": Rule.RECIPIENT,
    "src": Rule.CLIENT,
    "response": Rule.REPLY,
    "responseText": Rule.REPLY,
    "error": Rule.REPLY,
    "description": Rule.REPLY,
    "reason": Rule.REPLY,
}


class Drop(StrEnum):
    """Why entries are dropped, beside the reasons that a bad one may have."""

    NOISE = "noise"
    """Of an action that is no event."""
    NOT_ALLOWED = "not_allowed"
    """The sender's network is not on ``zonemta.log_remote.allow``."""
    SPOOL_FULL = "spool_full"
    """Kafka is away, and the spool on disk has no room."""


class Noise(StrEnum):
    """Actions that are no events; becomes the metric label ``kind``."""

    QUEUE_BOUNCE = "queue_bounce"
    QUEUE_POLL = "queue_poll"
    SPAMCHECK = "spamcheck"
    VIRUSCHECK = "viruscheck"
    OTHER = "other"


_NOISE: Final = {kind.value.upper(): kind for kind in Noise}


class RecordMaker:
    """Makes records of datagrams."""

    def __init__(self, privacy: Privacy) -> None:
        """Apply *privacy* to what is kept."""
        self._privacy = privacy

    def take(self, datagram: bytes, origin: str, received_ms: int, haul: Haul) -> None:
        """Add what comes of one datagram to *haul*.

        Args:
            datagram: One entry.
            origin: Address of the sender.
            received_ms: When it came.
            haul: Of the datagrams that came with it.
        """
        haul.received += 1
        try:
            entry = decode(datagram)
            action = _action(entry)
            if action in EVENTS:
                haul.records.append(self._record(entry, origin, received_ms))
            else:
                haul.discarded[Drop.NOISE] += 1
                haul.noise[_NOISE.get(action, Noise.OTHER)] += 1
        except RecordError as exc:
            haul.discarded[exc.reason] += 1

    def _record(self, entry: Mapping[str, Any], origin: str, received_ms: int) -> OutRecord:
        """Return the raw record.

        Raises:
            RecordError: The entry names no message, or would be too large.
        """
        queue_id = _queue_id(entry)
        told = {
            name: "" if value == _NOBODY else value
            for name, value in entry.items()
            if isinstance(value, str | int | float)
        }
        value = orjson.dumps(cut(told, _ALLOWED, self._privacy).record)
        if len(value) > LARGEST_RECORD:
            raise RecordError(Reason.TOO_LARGE, "larger than a record may be")
        headers = [
            ("id", event_id(entry).encode()),
            ("source", SOURCE.encode()),
            ("feed", FEED.encode()),
            ("origin", origin.encode()),
            ("received", b"%d" % received_ms),
        ]
        return OutRecord(value, queue_id.encode(), headers)


def event_id(entry: Mapping[str, Any]) -> str:
    """Return the id of the event that *entry* is, as the plugin gives it."""
    parts = [SOURCE, *(_as_text(entry.get(name)) for name in ("id", "seq", "action", "defcount"))]
    return hmac.digest(b"", orjson.dumps(parts), sha256).hex()[:ID_DIGITS]


def _action(entry: Mapping[str, Any]) -> str:
    action = entry.get("action")
    if not isinstance(action, str) or not action:
        raise RecordError(Reason.MISSING_FIELD, "action is required")
    return action


def _queue_id(entry: Mapping[str, Any]) -> str:
    queue_id = entry.get("id")
    if not isinstance(queue_id, str) or not queue_id:
        raise RecordError(Reason.MISSING_FIELD, "id is required")
    if len(queue_id) > _MOST_ID or not queue_id.isprintable():
        raise RecordError(Reason.INVALID_FIELD, "id is no queue id")
    return queue_id


def _as_text(value: object) -> str:
    """Return *value* as JavaScript's ``String`` gives it, for what an entry's id is made of."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
