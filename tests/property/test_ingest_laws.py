"""Laws of ingest: whatever is posted, nothing breaks, nothing vanishes, and nothing leaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.core.errors import RecordError
from pipeline.core.event import EVENT_TYPES, RESERVED_VALUES, partition_of
from pipeline.core.posted import ACCEPTED_NAMES, OWN_FIELDS, check, decode, encode
from pipeline.core.timestamp import epoch_ms, rfc3339
from pipeline.core.topics import TopicNames
from producers.known_names import KnownNames
from producers.posting import Posting, Sender, TooManyEventsError, decode_batch, decode_one
from producers.privacy import Privacy
from producers.unique_keys import unknown_keys

PRIVACY = Privacy(b"key")
NAMES = sorted(ACCEPTED_NAMES)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # half surrogate pairs included
    | st.sampled_from(['":', '"_other', "_other", "a@b", "\x00", "192.0.2.1", ":", '" :']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
GOOD = st.fixed_dictionaries(
    {
        "timestamp": st.sampled_from(["2026-01-02T03:04:05.678Z", 1_767_323_045.678]),
        "event_type": st.sampled_from(EVENT_TYPES),
        "message_id": st.just("<1@example.com>"),
    },
    optional={"queue_id": st.text(), "seq": st.text(), "user": st.text(), "zone": st.text()},
)
ODD = st.dictionaries(st.sampled_from([*NAMES, *OWN_FIELDS]) | st.text(), VALUES, max_size=6)
EVENTS = st.lists(
    GOOD | st.builds(lambda good, odd: good | odd, GOOD, ODD) | ODD | VALUES, max_size=8
)


def post(body: bytes, *, batch: bool) -> Posting:
    posting = Posting(Sender("haraka", "mx"), TopicNames("mail."), 4, PRIVACY, 1, KnownNames())
    posting.take(decode_batch(body, 100) if batch else decode_one(body), 0)
    posting.finish(body, batch=batch)
    return posting


@given(
    st.binary() | EVENTS.map(lambda events: json.dumps({"events": events}).encode()), st.booleans()
)
def test_any_body_is_taken_or_refused_with_a_reason(body: bytes, batch: bool) -> None:
    try:
        posting = post(body, batch=batch)
    except (RecordError, TooManyEventsError):
        return
    assert posting.accepted == sum(len(output.records) for output in posting.outputs)


@given(EVENTS)
def test_every_event_is_accepted_or_rejected(events: list[Any]) -> None:
    body = json.dumps({"events": events}).encode()
    assume(b"NaN" not in body and b"Infinity" not in body)
    posting = post(body, batch=True)
    assert posting.accepted + len(posting.rejected) == len(events)
    places = [item.place for item in posting.rejected]
    assert places == sorted(set(places))


@given(EVENTS)
def test_what_ingest_wrote_the_next_step_accepts(events: list[Any]) -> None:
    body = json.dumps({"events": events}).encode()
    assume(b"NaN" not in body and b"Infinity" not in body)
    for topic, partition, records in post(body, batch=True).outputs:
        assert topic == "mail.raw.haraka"
        for value, key, headers in records:
            event = decode(value)
            assert encode(event) == value
            check(event, value)
            assert set(json.loads(value)) <= ACCEPTED_NAMES
            assert key is not None
            assert partition == partition_of(key, 4)
            assert [name for name, _ in headers] == ["id", "source", "feed", "origin", "received"]
            assert all(content.isascii() for _, content in headers)


@given(st.lists(GOOD, max_size=5))
def test_a_post_repeated_has_the_same_ids_and_an_event_with_an_own_id_keeps_it(
    events: list[dict[str, Any]],
) -> None:
    body = json.dumps({"events": events}).encode()
    assert post(body, batch=True).outputs == post(body, batch=True).outputs


Pairs = list[tuple[str, Any]]


class Object(list[tuple[str, Any]]):
    """An object as it stands in a text: pairs, of which two may have one key."""


KEYS = st.sampled_from(["user", "zone", "x", ":", "", '"', "source"])
TREES = st.recursive(
    st.none() | st.sampled_from(["", '":', '"', ":a", '" :', '"\\u0022:']) | st.integers(0, 9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=3).map(Object)
    ),
    max_leaves=8,
)
BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t "])


def text_of(tree: Any, blank: str, *, escaped: bool) -> str:
    if isinstance(tree, Object):
        inside = (
            f"{text_of(key, '', escaped=escaped)}{blank}:{blank}{text_of(value, blank, escaped=escaped)}"
            for key, value in tree
        )
        return "{" + ",".join(inside) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(text_of(value, blank, escaped=escaped) for value in tree) + "]"
    if isinstance(tree, str) and escaped:
        return '"' + "".join(f"\\u{ord(char):04x}" for char in tree) + '"'
    return json.dumps(tree)


def repeats_a_key(tree: Any) -> bool:
    if isinstance(tree, Object):
        keys = [key for key, _ in tree]
        return len(set(keys)) < len(keys) or any(repeats_a_key(value) for _, value in tree)
    return isinstance(tree, list) and any(repeats_a_key(value) for value in tree)


@given(st.lists(TREES, max_size=4), BLANKS, st.booleans())
def test_a_repeated_key_is_found_wherever_it_stands(
    trees: list[Any], blank: str, escaped: bool
) -> None:
    batch = Object([("events", trees)])
    body = text_of(batch, blank, escaped=escaped).encode()
    if repeats_a_key(batch):
        with pytest.raises(RecordError):
            unknown_keys(body, batch=True)
        with pytest.raises(RecordError):
            post(body, batch=True)
    else:
        unknown_keys(body, batch=True)
        post(body, batch=True)


REPLY_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["user", "zone", "response_message"]),
        st.sampled_from(["a", '":', ":", '" :', '\\":', "\x0b"]),
    ),
    max_size=5,
).map(Object)
REQUIRED = (("timestamp", 1_767_323_045), ("event_type", "sent"), ("message_id", "m"))


@given(st.lists(REPLY_EVENTS, max_size=4), BLANKS, st.booleans())
def test_the_quick_proof_never_overlooks_a_repeated_key(
    events: list[Object], blank: str, escaped: bool
) -> None:
    batch = Object([("events", [Object([*REQUIRED, *event]) for event in events])])
    body = text_of(batch, blank, escaped=escaped).encode()
    if repeats_a_key(batch):
        with pytest.raises(RecordError):
            post(body, batch=True)
    else:
        post(body, batch=True)


ALIEN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LOCALS = st.from_regex(r"[a-zA-Z0-9.!#$*+/=?^_`{|}~'%-]{6,40}", fullmatch=True) | st.from_regex(
    r'"[a-zA-Z0-9 @.,;:<>()\[\]]{6,40}"', fullmatch=True
)
AROUND = st.sampled_from(["", " ", "<", ">", ",", ";", ":", "(", ")", "[", "]", "\r\n", "."])


@given(ALIEN, AROUND, LOCALS, st.sampled_from(["@", "\uff20"]), AROUND)
def test_no_reply_keeps_the_local_part_of_an_address(
    text: str, before: str, local: str, sign: str, after: str
) -> None:
    reply = f"{text.replace(chr(34), '')}{before}{local}{sign}example.com{after}"
    assume(before or not text)
    redacted = PRIVACY.redact(reply)
    assert f"{local}{sign}" not in redacted
    assert local.strip('"') not in redacted.removeprefix(text)
    assert "@example.com" in redacted


@given(st.text(st.characters(), max_size=300))
def test_redacting_twice_changes_only_hashes_and_keeps_texts_without_a_sign(text: str) -> None:
    assume(not {"@", "\uff20", "\ufe6b", "%40", "&#"} & set(text) and "%40" not in text)
    assume("&#" not in text)
    assert PRIVACY.redact(text) == text


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST = int((datetime(9999, 12, 30, tzinfo=UTC) - EPOCH).total_seconds() * 10**6)
MOMENTS = st.integers(366 * 86_400 * 10**6, LONGEST).map(
    lambda microseconds: EPOCH + timedelta(microseconds=microseconds)
)


@given(MOMENTS, st.integers(-1439, 1439), st.integers(0, 9))
def test_a_moment_is_the_same_in_every_zone_and_precision(
    moment: datetime, offset: int, digits: int
) -> None:
    ms = (moment - EPOCH) // timedelta(milliseconds=1)
    there = moment.astimezone(timezone(timedelta(minutes=offset)))
    sign = "-" if offset < 0 else "+"
    fraction = f"{moment.microsecond:06d}000"[:digits]
    zone = f"{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    text = f"{there:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}{zone}"
    cut = ms - ms % 10 ** (3 - min(digits, 3))
    assert epoch_ms(text) == cut
    assert epoch_ms(rfc3339(ms)) == ms


@given(GOOD, st.sampled_from(NAMES), st.sampled_from(sorted(RESERVED_VALUES)))
def test_no_reserved_value_passes_in_a_field_that_may_become_a_label(
    good: dict[str, Any], name: str, reserved: str
) -> None:
    value = msgspec.json.encode(good | {name: reserved})
    if name in {"response_message", "error_message"}:
        return
    with pytest.raises(RecordError):
        check(decode(value), value)
