"""From posts to raw records."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import partition_of
from pipeline.core.topics import TopicNames
from producers.known_names import KnownNames
from producers.posting import Posting, Sender, TooManyEventsError, decode_batch, decode_one
from producers.privacy import Privacy

NAMES = TopicNames("mail.")
RECEIVED = 1_767_323_045_678
GOOD: dict[str, Any] = {
    "timestamp": "2026-01-02T03:04:05.678Z",
    "event_type": "delivered",
    "message_id": "<1@example.com>",
}


def post(*events: Any, sender: Sender = Sender("zonemta", "default")) -> Posting:  # noqa: B008
    body = json.dumps({"events": events}).encode()
    posting = Posting(sender, NAMES, 4, Privacy(b"key"), RECEIVED, KnownNames())
    posting.take(decode_batch(body, 1000), 0)
    posting.finish(body, batch=True)
    return posting


def ids(posting: Posting) -> list[bytes]:
    return [record.headers[0][1] for output in posting.outputs for record in output.records]


def only(posting: Posting) -> Any:
    ((topic, partition, (record,)),) = posting.outputs
    return topic, partition, record


def test_a_record_has_its_place_key_and_headers() -> None:
    sender = Sender("haraka", "mx1")
    topic, partition, record = only(post(GOOD | {"queue_id": "q", "event_id": "e"}, sender=sender))
    assert (topic, partition) == ("mail.raw.haraka", partition_of(b"q", 4))
    assert record.key == b"q"
    assert list(record.headers) == [
        ("id", b"e"),
        ("source", b"haraka"),
        ("feed", b"hook"),
        ("origin", b"mx1"),
        ("received", b"1767323045678"),
    ]


def test_the_value_is_what_was_posted_on_the_allow_list() -> None:
    extra = {"subject": "secret", "source": "x", "origin": "y", "late": True}
    posted = GOOD | {"delivery_time_ms": 12, "zone": "default", "is_dsn": True}
    _, _, record = only(post(posted | extra))
    assert json.loads(record.value) == posted


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"queue_id": "q"}, b"q"),
        ({"queue_id": ""}, b"<1@example.com>"),
        ({}, b"<1@example.com>"),
        ({"message_id": None, "event_id": "e"}, b"e"),
    ],
)
def test_the_key_is_the_message_s_id(fields: dict[str, Any], key: bytes) -> None:
    _, partition, record = only(post(GOOD | fields))
    assert record.key == key
    assert partition == partition_of(key, 4)


def test_an_event_without_any_id_is_keyed_by_the_one_it_gets() -> None:
    _, _, record = only(post(GOOD | {"message_id": None, "event_type": "auth_failed"}))
    assert record.key == record.headers[0][1]
    assert len(record.key) == 32


def test_a_name_that_nobody_has_is_stored_hashed_and_an_account_s_as_it_is() -> None:
    failed = {"event_type": "auth_failed", "user": "Ann"}
    _, _, record = only(post(GOOD | failed))
    assert b"Ann" not in record.value
    assert json.loads(record.value)["login"] == Privacy(b"key").hash("ann")
    both = post(GOOD | {"event_type": "auth_succeeded", "user": "ann"}, GOOD | failed)
    values = [record.value for output in both.outputs for record in output.records]
    assert [json.loads(value)["user"] for value in values] == ["ann", "Ann"]


def test_the_same_post_has_the_same_ids() -> None:
    events = [GOOD, GOOD | {"zone": "a"}, GOOD | {"queue_id": "q"}]
    assert ids(post(*events)) == ids(post(*events))
    assert len(set(ids(post(*events)))) == 3


def test_equal_events_of_a_batch_differ_by_place_unless_their_queue_says_they_are_one() -> None:
    assert len(set(ids(post(GOOD, GOOD)))) == 2
    assert len(set(ids(post(*[GOOD | {"queue_id": "q"}] * 2)))) == 1
    assert len(set(ids(post(*[GOOD | {"seq": "001"}] * 2)))) == 1


def test_any_difference_in_the_content_is_another_event() -> None:
    one = GOOD | {"queue_id": "q", "seq": "001", "attempt": 1}
    others = [one | {name: "2"} for name in ("queue_id", "seq", "zone", "to_domain")]
    others += [one | {"attempt": 2}, one | {"event_type": "bounced"}]
    assert len(set(ids(post(one, *others)))) == 7


def test_an_id_tells_nothing_about_an_address() -> None:
    kept = Posting(
        Sender("zonemta", "default"), NAMES, 4, Privacy(b"other key"), RECEIVED, KnownNames()
    )
    body = json.dumps(GOOD | {"queue_id": "q", "to": "john@example.com"}).encode()
    kept.take(decode_one(body), 0)
    assert ids(kept) != ids(post(GOOD | {"queue_id": "q", "to": "john@example.com"}))


def test_addresses_never_reach_a_record() -> None:
    posting = post(GOOD | {"to": "john@example.com", "response_message": "<john@example.com>"})
    assert b"john" not in only(posting)[2].value
    assert posting.redacted == 1


def test_one_bad_event_costs_the_others_nothing() -> None:
    posting = post(GOOD, 5, GOOD | {"user": 5}, GOOD | {"event_type": "x"}, GOOD)
    assert posting.accepted == 2
    assert [(item.place, item.error.reason) for item in posting.rejected] == [
        (1, Reason.MALFORMED),
        (2, Reason.INVALID_FIELD),
        (3, Reason.UNKNOWN_EVENT_TYPE),
    ]


def test_half_a_surrogate_pair_spoils_its_event_only() -> None:
    posting = post(GOOD, GOOD | {"user": "\ud800"}, GOOD | {"user": "\U0001f600"})
    assert posting.accepted == 2
    assert [item.place for item in posting.rejected] == [1]


def test_taking_events_in_parts_makes_no_difference() -> None:
    body = json.dumps({"events": [GOOD | {"zone": str(n)} for n in range(10)]}).encode()
    events = decode_batch(body, 10)
    parts = Posting(Sender("zonemta", "default"), NAMES, 4, Privacy(b"key"), RECEIVED, KnownNames())
    for first in range(0, 10, 3):
        parts.take(events[first : first + 3], first)
    assert parts.finish(body, batch=True) == 0
    assert parts.outputs == post(*(GOOD | {"zone": str(n)} for n in range(10))).outputs


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"events":5}',
        b'{"events":null}',
        b'{"events":{}}',
        b'\xef\xbb\xbf{"events":[]}',
        b"\x1f\x8b",
        b"[" * 100_000,
        b'{"events":[' + b"[" * 100_000,
        b'{"events":[1,]}',
        b'{"events":[]}x',
        b'{"events":[NaN]}',
    ],
)
def test_a_body_of_another_shape_is_malformed(body: bytes) -> None:
    with pytest.raises(RecordError) as error:
        decode_batch(body, 10)
    assert error.value.reason is Reason.MALFORMED


def test_a_body_that_is_not_utf_8_is_malformed_as_a_whole() -> None:
    body = b'{"events":[{"user":"\xff"}]}'
    posting = Posting(
        Sender("zonemta", "default"), NAMES, 4, Privacy(b"key"), RECEIVED, KnownNames()
    )
    posting.take(decode_batch(body, 10), 0)
    with pytest.raises(RecordError):
        posting.finish(body, batch=True)


def test_a_batch_has_a_limit_that_braces_in_texts_do_not_reach() -> None:
    events = [GOOD | {"user": "{{{"}] * 3
    body = json.dumps({"events": events}).encode()
    assert len(decode_batch(body, 3)) == 3
    with pytest.raises(TooManyEventsError):
        decode_batch(body, 2)


@pytest.mark.parametrize("filler", [b"[]", b"{}", b"1", b'""'])
def test_a_body_of_very_many_small_values_is_refused_before_it_is_decoded(filler: bytes) -> None:
    body = b'{"events":[' + b",".join([filler] * 1_000_000) + b"]}"
    with pytest.raises(TooManyEventsError):
        decode_batch(body, 1000)
    with pytest.raises(TooManyEventsError):
        decode_one(body)


@pytest.mark.parametrize("filler", [b"1", b'""', b"[]"])
def test_values_that_are_no_events_count_as_events(filler: bytes) -> None:
    body = b'{"events":[' + b",".join([filler] * 101) + b"]}"
    with pytest.raises(TooManyEventsError):
        decode_batch(body, 100)


def test_a_single_event_with_a_bad_field_is_an_event_with_an_error() -> None:
    (event,) = decode_one(b'{"user":5}')
    assert isinstance(event, RecordError)
    with pytest.raises(RecordError):
        decode_one(b"[]")
