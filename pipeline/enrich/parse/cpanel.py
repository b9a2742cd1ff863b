"""Rows of WHM's ``emailtrack_search``: one delivery attempt of Exim each.

Numbers come as numbers or texts, and every field may be null or absent (cPanel & WHM, API 1).
``actiontime`` is local time without a zone and is never read; ``senderip`` is who submitted the
mail, ``ip`` whom it was delivered to.  The address of ours that it left from is not told: it is
what the poller's configuration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from pipeline.core.errors import Reason, RecordError
from pipeline.core.loose import real, text, whole
from pipeline.core.posted import PostedEvent
from pipeline.enrich.addresses import given_ip
from pipeline.enrich.parsing import Context, Skip

SENDING_IP: Final = "mailstream_sending_ip"
"""The one field of a record that the poller adds: ``sending_ip`` of its configuration."""
REMOTE: Final = "-remote-"
"""``user`` of mail that came from elsewhere."""
_NO_LOGIN: Final = ("", "localuser")
"""``senderauth`` of mail that was handed in without a login; with one, it may be ``method:mailbox``."""
_MAX_REPLY: Final = 16_384
_MAX_QUEUE_MS: Final = 10**10


class _Outcome(NamedTuple):
    event_type: str
    direction: str


def parse(value: bytes, context: Context) -> PostedEvent | Skip:
    """Return the event of one row.

    Raises:
        RecordError: It is no row, or of an unknown type.
    """
    row = _row(value)
    kind = text(row.get("type"))
    if kind == "inprogress":
        return Skip.PENDING
    user = text(row.get("user"))
    is_remote = whole(row.get("transport_is_remote")) == 1
    outcome = _outcome(kind, user, is_remote=is_remote)
    fields: dict[str, Any] = {
        "event_type": outcome.event_type,
        "direction": outcome.direction,
        "timestamp": whole(row.get("actionunixtime")),
        "mta_node": context.origin,
        "queue_id": text(row.get("msgid")),
        "from_address": _sender(row),
        "to": _recipient(row),
        "client_ip": given_ip(row.get("senderip"), or_pseudonym=True),
        "auth_method": text(row.get("senderauth")).partition(":")[0],
        "router": text(row.get("router")),
        "transport": text(row.get("transport")),
        "response_message": text(row.get("message"))[:_MAX_REPLY],
        "size_bytes": whole(row.get("size")),
        "spam_score": real(row.get("spamscore")),
        "queue_time_ms": _queue_time_ms(row),
    }
    if outcome.direction == "outbound":
        fields |= _who(row, user, context.origin)
    if is_remote:
        fields["mx_host"] = text(row.get("host"))
        fields["mx_ip"] = given_ip(row.get("ip"))
        fields["sending_ip"] = given_ip(row.get(SENDING_IP))
    elif outcome.event_type == "received":
        fields["to_user"] = text(row.get("deliveryuser"))
    try:
        return msgspec.convert(fields, PostedEvent)
    except msgspec.ValidationError as exc:
        raise RecordError(Reason.INVALID_FIELD, str(exc)) from exc


def _row(value: bytes) -> Mapping[str, Any]:
    try:
        row = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise RecordError(Reason.MALFORMED, exc.msg) from exc
    if not isinstance(row, dict):
        raise RecordError(Reason.MALFORMED, "the record is no object")
    return row


def _outcome(kind: str, user: str, *, is_remote: bool) -> _Outcome:
    foreign = user == REMOTE
    match kind:
        case "success":
            if is_remote:
                return _Outcome("delivered", "outbound")
            return _Outcome("received", "inbound" if foreign else "local")
        case "defer":
            inbound = foreign and not is_remote
            return _Outcome("deferred", "inbound" if inbound else "outbound")
        case "failure":
            if foreign:
                return _Outcome("rejected", "inbound")
            return _Outcome("bounced", "outbound")
        case "":
            raise RecordError(Reason.MISSING_FIELD, "type is required")
    raise RecordError(Reason.UNKNOWN_EVENT_TYPE, "type is not one that is known")


def _who(row: Mapping[str, Any], user: str, server: str) -> dict[str, str]:
    """Return the accountable account, which is one of its server's, and the mailbox that logged in."""
    if not user or (user[0] == user[-1] == "-"):
        return {}
    who = {"user": f"{user}@{server}"}
    method, _, login = text(row.get("senderauth")).partition(":")
    mailbox = login or text(row.get("email")) or text(row.get("sender"))
    if mailbox and method not in _NO_LOGIN:
        who["auth_user"] = mailbox
    return who


def _sender(row: Mapping[str, Any]) -> str | None:
    """Return the envelope sender: empty for a bounce, None where it is not told."""
    sender = row.get("sender")
    return sender.strip() if isinstance(sender, str) else None


def _recipient(row: Mapping[str, Any]) -> str:
    """Return the final address; the original one where mail went into a file or a program."""
    final = text(row.get("deliveredto"))
    return final if "@" in final else text(row.get("recipient"))


def _queue_time_ms(row: Mapping[str, Any]) -> int | None:
    sent_s, acted_s = whole(row.get("sendunixtime")), whole(row.get("actionunixtime"))
    if sent_s is None or acted_s is None or not sent_s:
        return None
    waited_ms = 1000 * (acted_s - sent_s)
    return waited_ms if 0 <= waited_ms <= _MAX_QUEUE_MS else None
