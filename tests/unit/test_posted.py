"""What a posted event may say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import EVENT_TYPES, MailEvent
from pipeline.core.posted import (
    ACCEPTED_NAMES,
    OWN_FIELDS,
    WITHOUT_MESSAGE,
    PostedEvent,
    check,
    decode,
    drop_own,
    encode,
)

GOOD: dict[str, Any] = {
    "timestamp": "2026-01-02T03:04:05.678Z",
    "event_type": "delivered",
    "message_id": "<1@example.com>",
}


def read(**fields: Any) -> PostedEvent:
    event = decode(msgspec.json.encode(GOOD | fields))
    check(event, encode(event))
    return event


def refused(**fields: Any) -> RecordError:
    with pytest.raises(RecordError) as error:
        read(**fields)
    return error.value


def test_a_minimal_event_is_accepted_and_its_time_returned() -> None:
    event = decode(msgspec.json.encode(GOOD))
    assert check(event, encode(event)) == 1_767_323_045_678


def test_values_are_stored_as_they_were_posted() -> None:
    posted = GOOD | {"from": "A@x", "source_ip": "::FFFF:1.2.3.4", "delivery_time_ms": 1.5}
    assert msgspec.json.decode(encode(read(**posted))) == posted


def test_the_allow_list_is_the_mail_event_without_our_own_fields_plus_aliases() -> None:
    names = set(MailEvent.__struct_fields__) - set(OWN_FIELDS)
    assert names | {"from", "source_ip", "hostname", "to"} == ACCEPTED_NAMES


@pytest.mark.parametrize("name", OWN_FIELDS)
@pytest.mark.parametrize("value", ["x", 5, True, None, {"a": [1]}])
def test_fields_that_only_we_set_are_dropped_whatever_they_hold(name: str, value: Any) -> None:
    assert encode(read(**{name: value})) == encode(read())


def test_dropped_fields_are_counted() -> None:
    event = msgspec.convert({**GOOD, "source": "x", "late": True, "provider": "y"}, PostedEvent)
    assert drop_own(event) == 3
    assert drop_own(event) == 0


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_event_type_is_known(event_type: str) -> None:
    assert read(event_type=event_type).event_type == event_type


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"event_type": "inbound_mail_from"}, Reason.UNKNOWN_EVENT_TYPE),
        ({"event_type": None}, Reason.MISSING_FIELD),
        ({"event_type": ""}, Reason.MISSING_FIELD),
        ({"timestamp": None}, Reason.MISSING_FIELD),
        ({"message_id": None}, Reason.MISSING_FIELD),
        ({"message_id": ""}, Reason.MISSING_FIELD),
        ({"timestamp": True}, Reason.INVALID_FIELD),
        ({"timestamp": []}, Reason.INVALID_FIELD),
        ({"user": "_other"}, Reason.RESERVED_VALUE),
        ({"to_domain": "_unknown"}, Reason.RESERVED_VALUE),
        ({"hostname": "_other"}, Reason.RESERVED_VALUE),
        ({"user": "a\x1fb"}, Reason.INVALID_FIELD),
        ({"user": "a\x00"}, Reason.INVALID_FIELD),
        ({"queue_id": "a\nb"}, Reason.INVALID_FIELD),
        ({"from": "a\tb"}, Reason.INVALID_FIELD),
        ({"timestamp": "2026-01-02T03:04:05Z\n"}, Reason.INVALID_FIELD),
        ({"user": "x" * 321}, Reason.INVALID_FIELD),
        ({"mta_node": "x" * 10_000}, Reason.INVALID_FIELD),
        ({"response_message": "x" * 16_385}, Reason.INVALID_FIELD),
        ({"user": 5}, Reason.INVALID_FIELD),
        ({"sending_ip": "localhost"}, Reason.INVALID_FIELD),
        ({"sending_ip": "1.2.3"}, Reason.INVALID_FIELD),
        ({"sending_ip": "fe80::1%eth0"}, Reason.INVALID_FIELD),
        ({"sending_ip": "0123456789abcdef"}, Reason.INVALID_FIELD),
        ({"mx_ip": "x"}, Reason.INVALID_FIELD),
        ({"client_ip": "x"}, Reason.INVALID_FIELD),
        ({"source_ip": "x"}, Reason.INVALID_FIELD),
        ({"direction": "sideways"}, Reason.INVALID_FIELD),
        ({"event_id": "ü"}, Reason.INVALID_FIELD),
        ({"response_code": "550"}, Reason.INVALID_FIELD),
        ({"response_code": 1000}, Reason.INVALID_FIELD),
        ({"response_code": -1}, Reason.INVALID_FIELD),
        ({"response_code": 550.0}, Reason.INVALID_FIELD),
        ({"size_bytes": 10**30}, Reason.INVALID_FIELD),
        ({"recipients": True}, Reason.INVALID_FIELD),
        ({"delivery_time_ms": -1}, Reason.INVALID_FIELD),
        ({"delivery_time_ms": 1e300}, Reason.INVALID_FIELD),
        ({"delivery_time_ms": 10**12}, Reason.INVALID_FIELD),
        ({"source": 5, "user": 5}, Reason.INVALID_FIELD),
    ],
)
def test_unusable_values_are_refused_with_their_reason(
    fields: dict[str, Any], reason: Reason
) -> None:
    assert refused(**fields).reason is reason


@pytest.mark.parametrize(
    "fields",
    [
        {"message_id": None, "queue_id": "q"},
        {"message_id": None, "event_id": "e"},
        {"response_message": "550-no\r\n550 \x00 \t _other"},
        {"response_message": "_other"},
        {"user": "_others"},
        {"user": 'quoted "name" \\ _other'},
        {"sending_ip": ""},
        {"sending_ip": "2001:db8::1"},
        {"client_ip": "0123456789abcdef"},
        {"source_ip": "0123456789abcdef"},
        {"direction": "inbound"},
        {"response_code": 0},
        {"timestamp": 1_767_323_045.5},
        {"user": "jörg@exämple.de"},
    ],
)
def test_usable_values_are_accepted(fields: dict[str, Any]) -> None:
    read(**fields)


@pytest.mark.parametrize("event_type", sorted(WITHOUT_MESSAGE))
def test_events_that_concern_no_message_need_no_id(event_type: str) -> None:
    read(event_type=event_type, message_id=None)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b'"x"',
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'{"user":"\xff"}',
        b'{"user":"\\ud800"}',
        b'{"user":NaN}',
        b'{"x":' + b"[" * 100_000,
        b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
def test_what_is_not_a_json_object_is_malformed(text: bytes) -> None:
    with pytest.raises(RecordError) as error:
        decode(text)
    assert error.value.reason is Reason.MALFORMED


def test_errors_never_quote_a_value() -> None:
    for fields in ({"user": ["a@example.com"]}, {"sending_ip": "a@example.com"}):
        assert "example" not in str(refused(**fields))
