"""Entries of ZoneMTA's log, as its ``log.remote`` sends them: what its plugin makes of the same.

What ZoneMTA did is the action, never the reply code: it bounces some 4xx and retries some 5xx.
Entries have no time: it is when they came.  What only hooks know of a delivery (its account, how
long it took, the address chosen where nothing was connected) is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from pipeline.core.errors import Reason, RecordError
from pipeline.core.loose import real, text, whole
from pipeline.core.posted import PostedEvent
from pipeline.enrich.addresses import given_ip, ip
from pipeline.enrich.parsing import Context, Skip

FEED: Final = "log_remote"

_TYPES: Final = {
    "QUEUED": "sent",
    "ACCEPTED": "delivered",
    "DEFERRED": "deferred",
    "REJECTED": "bounced",
    "NOQUEUE": "rejected",
    "DROP": "rejected",
    "DELETED": "rejected",
}
_ATTEMPTS: Final = frozenset({"ACCEPTED", "DEFERRED", "REJECTED"})
_MAX_COUNT: Final = 1_000_000
_MAX_SIZE: Final = 1 << 34
_MAX_SCORE: Final = 1e6
_CONTROL: Final = re.compile(r"[\x00-\x1f]+")
_CODE: Final = re.compile(r"\d{3}\b", re.ASCII)
# A quoted local may hold commas; its bound (RFC 5321, 4.5.3.1.1) also bounds the work.
_ADDRESSES: Final = re.compile(r"""(?:"(?:[^"\\]|\\.){0,64}+"|[^,])+""", re.DOTALL)
_NAME: Final = 255
_ADDRESS: Final = 320
_REPLY: Final = 16_384
_ID: Final = 1000
_WORD: Final = 64

_Entry = Mapping[str, Any]
_Fields = dict[str, Any]


def parse(value: bytes, context: Context) -> PostedEvent | Skip:
    """Return the event of one entry.

    Raises:
        RecordError: It is no entry, or of an action that is no event.
    """
    entry = _entry(value)
    action = text(entry.get("action"))
    if action not in _TYPES:
        raise RecordError(Reason.UNKNOWN_EVENT_TYPE, "action is not one that is an event")
    fields: _Fields = {
        "timestamp": context.received_ms / 1000,
        "event_type": _TYPES[action],
        "mta_node": context.origin,
        "queue_id": _text(entry, "id", _NAME),
        "seq": _text(entry, "seq", _WORD),
        "message_id": _text(entry, "message-id", _ID) or _text(entry, "messageId", _ID),
        **_sender(entry),
        **(_attempt(entry, action) if action in _ATTEMPTS else _message(entry, action)),
    }
    try:
        return msgspec.convert(fields, PostedEvent)
    except msgspec.ValidationError as exc:
        raise RecordError(Reason.INVALID_FIELD, str(exc)) from exc


def _entry(value: bytes) -> _Entry:
    try:
        entry = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise RecordError(Reason.MALFORMED, exc.msg) from exc
    if not isinstance(entry, dict):
        raise RecordError(Reason.MALFORMED, "the record is no object")
    return entry


def _sender(entry: _Entry) -> _Fields:
    """Return whose mail it is; an empty sender is a DSN's, a missing one is not known."""
    name = "returnPath" if isinstance(entry.get("returnPath"), str) else "from"
    via = _text(entry, "interface", _NAME)
    sender = _text(entry, name, _ADDRESS) if isinstance(entry.get(name), str) else None
    return {
        "from_address": sender,
        "is_dsn": sender == "" or via == "bounce" or entry.get("zone") == "bounces",
        "user": _text(entry, "user", _ADDRESS),
        "client_ip": ip(given_ip(entry.get("src"), or_pseudonym=True)),
        "router": via,
    }


def _attempt(entry: _Entry, action: str) -> _Fields:
    """Return the fields of one attempt to deliver to one recipient."""
    reply = _text(entry, "response", _REPLY)
    code = _code(reply)
    delivered = action == "ACCEPTED"
    is_reply = code is not None or delivered
    mx = _text(entry, "mx", _NAME)
    host = text(entry.get("host"))
    return {
        "to": _text(entry, "to", _ADDRESS),
        "to_domain": _domain(text(entry.get("to"))),
        "zone": _text(entry, "zone", _NAME),
        "transport": _text(entry, "protocol", _NAME),
        "sending_ip": _address(entry, "ip"),
        # Without a connection ZoneMTA logs the recipient's domain in place of the host.
        "mx_host": mx if host and _address(entry, "mx") is None else None,
        "mx_ip": _address(entry, "host"),
        "attempt": _count(entry, "defcount", _MAX_COUNT) or None,
        "response_code": code,
        "response_message": reply if is_reply else None,
        "error_message": None if is_reply else reply,
        "error_code": None if delivered else _text(entry, "category", _NAME),
        "size_bytes": _count(entry, "size", _MAX_SIZE),
    }


def _message(entry: _Entry, action: str) -> _Fields:
    """Return the fields of a message as ZoneMTA took it, refused it or let it go."""
    reason = _text(entry, "reason", _REPLY)
    if action == "DELETED":
        return {"error_code": "deleted", "error_message": reason}
    recipient = text(entry.get("recipient"))
    if recipient:
        return {
            "to": _clean(recipient, _ADDRESS),
            "to_domain": _domain(recipient),
            "error_code": "suppressed",
            "error_message": reason,
        }
    recipients = _ADDRESSES.findall(text(entry.get("to")))
    domains = {_domain(one) for one in recipients}
    reply = _text(entry, "responseText", _REPLY)
    score = real(entry.get("score"))
    fields: _Fields = {
        "to": _clean(recipients[0], _ADDRESS) if len(recipients) == 1 else None,
        "to_domain": domains.pop() if len(domains) == 1 else None,
        "recipients": len(recipients) or None,
        "size_bytes": _count(entry, "body", _MAX_SIZE),
        "spam_score": score if score is not None and abs(score) <= _MAX_SCORE else None,
        "response_code": _code(reply),
        "response_message": reply,
    }
    if action != "QUEUED":
        fields["error_code"] = action.lower()
        fields["error_message"] = _text(entry, "error", _REPLY) or _text(
            entry, "description", _REPLY
        )
    return fields


def _text(entry: _Entry, name: str, most: int) -> str:
    return _clean(text(entry.get(name)), most)


def _clean(given: str, most: int) -> str:
    """Return *given* in one line and cut: an event must not fail for one odd field."""
    return _CONTROL.sub(" ", given).strip()[:most]


def _code(reply: str) -> int | None:
    found = _CODE.match(reply)
    return int(found[0]) if found is not None else None


def _domain(recipient: str) -> str | None:
    _, at, host = recipient.rpartition("@")
    return _clean(host.removesuffix(">"), _NAME) if at else None


def _address(entry: _Entry, name: str) -> str | None:
    return ip(given_ip(entry.get(name)))


def _count(entry: _Entry, name: str, most: int) -> int | None:
    number = whole(entry.get(name))
    return number if number is not None and 0 <= number <= most else None
