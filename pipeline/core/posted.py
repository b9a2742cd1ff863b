"""``PostedEvent``: one event as a hook posts it, and the rules that it must keep.

The struct is the allow-list: what is not a field here is never stored.  Values on the raw topic are
this struct, encoded: names and values as posted.  Ingest checks events with :func:`check` before
they are written; phase 1 reads them with the same function, so both sides refuse the same things.

Lengths, types and ranges are part of the annotations, where msgspec checks them while decoding.
Empty texts count as absent.  Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import orjson
from msgspec import Meta

from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import DIRECTIONS, EVENT_TYPE_NUMBER, RESERVED_VALUES, MailEvent
from pipeline.core.timestamp import epoch_ms

Id: TypeAlias = Annotated[str, Meta(max_length=1000)] | None
"""A Message-ID may fill a header line of 998 characters (RFC 5322, 2.1.1)."""
Address: TypeAlias = Annotated[str, Meta(max_length=320)] | None
Name: TypeAlias = Annotated[str, Meta(max_length=255)] | None
Word: TypeAlias = Annotated[str, Meta(max_length=64)] | None
Reply: TypeAlias = Annotated[str, Meta(max_length=16_384)] | None
Count: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)] | None
Bytes: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 34)] | None
"""16 GiB; half a billion such messages of one sender in a window still fit a sum."""
Code: TypeAlias = Annotated[int, Meta(ge=0, le=999)] | None
Milliseconds: TypeAlias = (
    Annotated[int, Meta(ge=0, le=10**10)] | Annotated[float, Meta(ge=0, le=1e10)] | None
)
"""Up to 115 days."""
Score: TypeAlias = Annotated[float, Meta(ge=-1e6, le=1e6)] | None
Phases: TypeAlias = (
    Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[float, Meta(ge=0, le=1e10)]],
        Meta(max_length=64),
    ]
    | None
)
Time: TypeAlias = Annotated[str, Meta(max_length=64)] | int | float | None


class PostedEvent(MailEvent, omit_defaults=True, kw_only=True, gc=False):
    """One posted event: the fields of ``MailEvent`` as the sender names them, and its aliases."""

    timestamp: Time = None  # type: ignore[assignment]  # posted times have more forms than ours
    """RFC 3339 with any offset, or seconds since the epoch."""
    event_id: Id = None
    event_type: Word = None
    direction: Word = None
    user: Address = None
    login: Address = None
    auth_user: Address = None
    from_user: Address = None
    from_domain: Name = None
    from_address: Address = None
    to_user: Address = None
    to_domain: Name = None
    to_hash: Address = None
    sending_ip: Word = None
    client_ip: Word = None
    auth_method: Word = None
    auth_result: Word = None
    auth_scope: Word = None
    mta_node: Name = None
    zone: Name = None
    mx_host: Name = None
    mx_ip: Word = None
    router: Name = None
    transport: Name = None
    message_id: Id = None
    queue_id: Name = None
    seq: Word = None
    attempt: Count = None
    response_code: Code = None
    """0 and codes that are no SMTP replies mean that there was none."""
    enhanced_status: Word = None
    response_message: Reply = None
    error_code: Name = None
    error_message: Reply = None
    delivery_time_ms: Milliseconds = None
    queue_time_ms: Milliseconds = None
    smtp_time_ms: Milliseconds = None
    size_bytes: Bytes = None
    recipients: Count = None
    spam_score: Score = None
    route: Name = None
    outcome: Word = None
    failed_phase: Word = None
    error_class: Word = None
    phases_ms: Phases = None
    folder: Name = None
    # aliases that hand-written plugins post
    from_: Address = msgspec.field(default=None, name="from")
    """Envelope sender."""
    source_ip: Word = None
    """Haraka: the peer.  ZoneMTA: the address of ours that the mail left from."""
    hostname: Name = None
    """Haraka: the peer's name.  ZoneMTA: the MTA's own name."""
    to: Address = None
    """Recipient."""


PROBE_FIELDS: Final = (
    "route",
    "outcome",
    "failed_phase",
    "error_class",
    "phases_ms",
    "folder",
)
"""Fields of ``MailEvent`` that only a probe's records may set."""

OWN_FIELDS: Final = (
    "source",
    "feed",
    "origin",
    "received",
    "is_probe",
    "provider",
    "bounce_class",
    "bounce_category",
    "late",
    *PROBE_FIELDS,
)
"""Fields of ``MailEvent`` that only we set: dropped when posted."""

ACCEPTED_NAMES: Final = frozenset(
    name for name in PostedEvent.__struct_encode_fields__ if name not in OWN_FIELDS
)
"""Every JSON name that a posted event may have."""

FREE_TEXT: Final = ("response_message", "error_message")
"""Fields that hold what a remote server said: any character, never part of a key."""

WITHOUT_MESSAGE: Final = frozenset({"rejected", "auth_succeeded", "auth_failed", "probe"})
"""Event types that may concern no message, so that they need no id of one."""

_KEY_LIKE: Final = tuple(
    (attribute, name)
    for attribute, name in zip(
        PostedEvent.__struct_fields__, PostedEvent.__struct_encode_fields__, strict=True
    )
    if name in {*ACCEPTED_NAMES, *PROBE_FIELDS} and name not in FREE_TEXT
)
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_PSEUDONYM: Final = re.compile(r"[0-9a-f]{16}")

_decode: Final = msgspec.json.Decoder(PostedEvent).decode
encode: Final = msgspec.json.Encoder().encode
"""Encode a checked event as the raw topic holds it: compact, absent fields left out."""


def decode(value: bytes | msgspec.Raw) -> PostedEvent:
    """Return the event of one JSON object, without the fields that only we set.

    Raises:
        RecordError: It is not a JSON object, or a field has the wrong type, range or length.
    """
    try:
        event = _decode(value)
    except msgspec.ValidationError as exc:
        event = _without_own(bytes(value), exc)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise malformed(exc) from exc
    drop_own(event)
    return event


def drop_own(event: PostedEvent) -> int:
    """Clear the fields that only we set; return how many were there."""
    if (
        event.source is None
        and event.feed is None
        and event.origin is None
        and event.received is None
        and event.provider is None
        and event.bounce_class is None
        and event.bounce_category is None
        and not (event.is_probe or event.late or tells_of_a_probe(event))
    ):
        return 0  # spelt out: 0.15 µs, a third of what a loop over the names takes
    dropped = 0
    for name, default in zip(
        PostedEvent.__struct_fields__, PostedEvent.__struct_defaults__, strict=True
    ):
        if name in OWN_FIELDS and getattr(event, name) != default:
            setattr(event, name, default)
            dropped += 1
    return dropped


def tells_of_a_probe(event: PostedEvent) -> bool:
    """Tell whether *event* has a field that only a probe's records may set."""
    return (
        event.route is not None
        or event.outcome is not None
        or event.failed_phase is not None
        or event.error_class is not None
        or event.phases_ms is not None
        or event.folder is not None
    )


def malformed(exc: Exception) -> RecordError:
    """Return the error of a text that is not JSON, without quoting the text."""
    if isinstance(exc, UnicodeDecodeError):
        return RecordError(Reason.MALFORMED, "the text is not UTF-8")
    if isinstance(exc, RecursionError):
        return RecordError(Reason.MALFORMED, "the JSON is nested too deeply")
    return RecordError(Reason.MALFORMED, str(exc))


def check(event: PostedEvent, encoded: bytes) -> int:
    """Check what types cannot say; return the event time in ms since the epoch.

    Args:
        event: A decoded event.
        encoded: What :data:`encode` makes of it; control characters and reserved values show in
            it at a glance (0.1 µs), so that the fields need no look in the usual case.

    Raises:
        RecordError: A required field is missing, or a field's value is unusable.
    """
    check_fields(event, suspicious=b"\\" in encoded or b'"_' in encoded)
    return epoch_ms(event.timestamp)  # type: ignore[arg-type]  # required above


def check_fields(event: PostedEvent, *, suspicious: bool) -> None:
    """Check all that :func:`check` does, except that the timestamp can be read.

    Args:
        event: A decoded event.
        suspicious: Its JSON holds a backslash, or a string that begins with an underscore.  Phase 1
            looks for them in a whole batch at once.

    Raises:
        RecordError: A required field is missing, or a field's value is unusable.
    """
    _check_required(event)
    if suspicious:
        _check_key_like(event)
    if event.sending_ip and not _is_ip(event.sending_ip):
        raise _not_ip("sending_ip")
    if event.mx_ip and not _is_ip(event.mx_ip):
        raise _not_ip("mx_ip")
    if event.client_ip and not _is_client(event.client_ip):
        raise _not_ip("client_ip")
    if event.source_ip and not _is_client(event.source_ip):
        raise _not_ip("source_ip")
    if event.event_id and not event.event_id.isascii():  # it becomes a header
        raise RecordError(Reason.INVALID_FIELD, "event_id is not ASCII")
    if event.direction and event.direction not in DIRECTIONS:
        raise RecordError(Reason.INVALID_FIELD, f"direction is not one of {', '.join(DIRECTIONS)}")


def _without_own(value: bytes, refused: msgspec.ValidationError) -> PostedEvent:
    """Decode again without the fields that are dropped anyway, whatever their type."""
    detail = str(refused)
    if " - at " not in detail:
        raise RecordError(Reason.MALFORMED, detail) from refused
    try:
        fields: dict[str, Any] = orjson.loads(value)
        return msgspec.convert(
            {name: field for name, field in fields.items() if name not in OWN_FIELDS}, PostedEvent
        )
    except msgspec.ValidationError as exc:
        raise RecordError(Reason.INVALID_FIELD, str(exc)) from exc
    except orjson.JSONDecodeError as exc:
        raise RecordError(Reason.MALFORMED, exc.msg) from exc


def _check_required(event: PostedEvent) -> None:
    event_type = event.event_type
    if event_type not in EVENT_TYPE_NUMBER:
        if not event_type:
            raise RecordError(Reason.MISSING_FIELD, "event_type is required")
        raise RecordError(Reason.UNKNOWN_EVENT_TYPE, "event_type is not one that is known")
    if event.timestamp is None:
        raise RecordError(Reason.MISSING_FIELD, "timestamp is required")
    if (
        not event.message_id
        and not event.queue_id
        and not event.event_id
        and event_type not in WITHOUT_MESSAGE
    ):
        raise RecordError(Reason.MISSING_FIELD, "message_id or queue_id is required")


def _check_key_like(event: PostedEvent) -> None:
    replies = event.response_message, event.error_message
    event.response_message = event.error_message = None
    keys = encode(event)
    event.response_message, event.error_message = replies
    if b"\\" not in keys and b'"_' not in keys:  # only a reply was in question: 0.7 µs, not 7
        return
    for attribute, name in _KEY_LIKE:
        text = getattr(event, attribute)
        if isinstance(text, str):
            if text in RESERVED_VALUES:
                raise RecordError(Reason.RESERVED_VALUE, f"{name} has a value that is reserved")
            if _CONTROL.search(text) is not None:
                raise RecordError(Reason.INVALID_FIELD, f"{name} has a control character")


def _not_ip(name: str) -> RecordError:
    return RecordError(Reason.INVALID_FIELD, f"{name} is not an IP address")


@lru_cache(maxsize=8192)
def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a scope id is any text, and means something on one host only


@lru_cache(maxsize=8192)
def _is_client(text: str) -> bool:
    """Tell whether it is an address, or the hash that privacy puts in its place."""
    return _is_ip(text) or _PSEUDONYM.fullmatch(text) is not None
