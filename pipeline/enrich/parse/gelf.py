"""Mail in GELF: what the WildDuck plugins of ZoneMTA (mta) and Haraka (mx) report.

The bracket word of ``short_message`` decides.  Absent fields were empty: a message of the MTA
without ``_from`` is a DSN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from pipeline.core import gelf
from pipeline.core.errors import Reason, RecordError
from pipeline.core.posted import PostedEvent
from pipeline.enrich.parsing import Context, Skip

Message: TypeAlias = Mapping[str, Any]
Fields: TypeAlias = dict[str, Any]

GENERATED: Final = "bounce"
"""The ``_interface`` of the DSNs that ZoneMTA makes itself."""
_YES: Final = "yes"


def parse(value: bytes, context: Context, *, mta_events: bool) -> PostedEvent | Skip:
    """Return what a message tells of one mail.

    Args:
        value: The message.
        context: What its headers say.
        mta_events: Whether what ZoneMTA did is told by nothing else.

    Raises:
        RecordError: It is not what the plugins send.
    """
    message = gelf.decode(value)
    word, component = gelf.word_of(message), message.get("_component")
    if component == gelf.MTA and word in _MTA:
        if not mta_events:
            return Skip.SHADOW
        fields = {"direction": "outbound", **_MTA[word](message)}
    elif component == gelf.MX and word in _MX:
        fields = {"direction": "inbound", **_MX[word](message)}
    else:
        return Skip.NOISE
    common = {
        "timestamp": gelf.event_time(message, context.received_ms),
        "mta_node": gelf.text(message, "host") or context.origin,
        "queue_id": gelf.text(message, "_queue_id"),
        "seq": gelf.text(message, "_queue_id_seq"),
        "message_id": gelf.text(message, "_message_id"),
    }
    try:
        return msgspec.convert({**common, **fields}, PostedEvent)
    except msgspec.ValidationError as exc:
        raise RecordError(Reason.INVALID_FIELD, str(exc)) from exc


def _parties(message: Message) -> Fields:
    """Return who sent it to whom: one recipient, or how many."""
    to = gelf.text(message, "_to")
    fields: Fields = {"from_address": gelf.text(message, "_from") or ""}
    if to is not None and "," not in to:
        fields["to"] = to
    elif to is not None:
        fields["recipients"] = to.count(",") + 1
    return fields


def _submitted(message: Message) -> Fields:
    """Return what is known when a message is handed in."""
    return {
        **_parties(message),
        "client_ip": gelf.text(message, "_ip"),
        "size_bytes": gelf.whole(message, "_body_size"),
        "spam_score": gelf.number(message, "_spam_score"),
        "transport": gelf.text(message, "_interface"),
        "user": _account(message),
    }


def _account(message: Message) -> str | None:
    """Return who is accountable; an id of WildDuck's is no name."""
    user = gelf.text(message, "_user")
    if user is not None and gelf.is_account_id(user):
        user = None
    return gelf.text(message, "_authenticated_sender") or gelf.text(message, "_username") or user


def _attempted(message: Message) -> Fields:
    """Return how one delivery attempt went."""
    return {
        **_parties(message),
        "zone": gelf.text(message, "_zone"),
        "mx_host": gelf.text(message, "_mx"),
        "mx_ip": gelf.text(message, "_mx_host"),
        "sending_ip": gelf.text(message, "_local_ip"),
        "response_message": gelf.text(message, "_response"),
        "transport": gelf.text(message, "_delivery_protocol"),
        "error_code": gelf.text(message, "_bounce_category"),
        "attempt": gelf.whole(message, "_bounce_count"),
    }


def _queued(message: Message) -> Fields:
    generated = gelf.text(message, "_interface") == GENERATED
    return {"event_type": "sent", "is_dsn": generated, **_submitted(message)}


def _refused(message: Message) -> Fields:
    response = gelf.text(message, "_response")
    return {"event_type": "rejected", "response_message": response, **_submitted(message)}


def _deleted(message: Message) -> Fields:
    reason = gelf.text(message, "_response")
    return {"event_type": "rejected", "error_code": "deleted", "error_message": reason}


def _dropped(message: Message) -> Fields:
    response, description = gelf.text(message, "_response"), gelf.text(message, "_description")
    why = f"{response or ''} {description or ''}".lower()
    return {
        "event_type": "rejected",
        "error_code": "suppressed" if "suppress" in why else "dropped",
        "error_message": response or description,
        "spam_score": gelf.number(message, "_spam_score"),
        "user": _account(message),
    }


def _recipient_refused(message: Message) -> Fields:
    return {
        "event_type": "rejected",
        "error_code": "rate_limit" if "_rate_limit" in message else "recipient_refused",
        "error_message": gelf.text(message, "_error"),
        "client_ip": gelf.text(message, "_ip"),
        "user": _account(message),
    }


def _inbound(message: Message) -> Fields:
    return {
        **_parties(message),
        "client_ip": gelf.text(message, "_ip"),
        "to_user": gelf.text(message, "_username"),
        "spam_score": gelf.number(message, "_spam_score"),
        "size_bytes": gelf.whole(message, "_stored_size"),
    }


def _denied(message: Message) -> Fields:
    return {
        "event_type": "rejected",
        **_inbound(message),
        "error_code": gelf.text(message, "_reject_code") or gelf.text(message, "_rejector"),
        "error_message": gelf.text(message, "_error"),
    }


def _processed(message: Message) -> Fields:
    """Return what became of a message at the mailbox."""
    fields = _inbound(message)
    if "_failure" in message:
        return {
            "event_type": "deferred",
            **fields,
            "error_code": gelf.text(message, "_err_code"),
            "error_message": gelf.text(message, "_error"),
        }
    if "_dropped" in message or "_no_store" in message or message.get("_stored", _YES) != _YES:
        return {
            "event_type": "rejected",
            **fields,
            "error_code": gelf.text(message, "_err_code") or "dropped",
            "error_message": gelf.text(message, "_error"),
        }
    return {"event_type": "received", **fields}


def _handed_on(message: Message) -> Fields:
    """Return a forward or an autoreply on its way to the MTA, which reports it once more."""
    return {"event_type": "sent", **_parties(message), "direction": "internal"}


_Made: TypeAlias = Callable[[Message], Fields]

_MTA: Final[Mapping[str, _Made]] = {
    "QUEUED": _queued,
    "ACCEPTED": lambda message: {"event_type": "delivered", **_attempted(message)},
    "DEFERRED": lambda message: {"event_type": "deferred", **_attempted(message)},
    "REJECTED": lambda message: {"event_type": "bounced", **_attempted(message)},
    "NOQUEUE": _refused,
    "DELETED": _deleted,
    "DROP": _dropped,
    "RCPT TO": _recipient_refused,
}
_MX: Final[Mapping[str, _Made]] = {
    "DENY": _denied,
    "PROCESS": _processed,
    "QUEUED": _handed_on,
    "QUEUED FORWARD": _handed_on,
    "QUEUED AUTOREPLY": _handed_on,
}
