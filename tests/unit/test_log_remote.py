"""Entries of ZoneMTA's log: how they are read, which are written, and what events they are."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pipeline.core.batch import OutRecord, header
from pipeline.core.errors import Reason, RecordError
from pipeline.core.posted import PostedEvent, check_fields, encode
from pipeline.core.timestamp import epoch_ms, rfc3339
from pipeline.enrich.forms import forms
from pipeline.enrich.head import Head
from pipeline.enrich.normalise import Normaliser, drop_empty
from pipeline.enrich.parse import zonemta_log
from pipeline.enrich.parsing import Context
from producers.haul import Haul
from producers.privacy import Privacy
from producers.sources.log_remote.msgpack_js import decode
from producers.sources.log_remote.records import Drop, Noise, RecordMaker, event_id
from tests.kit.log_remote import SAMPLES_AT_MS, SAMPLES_NODE, Undefined, samples, written

SAMPLES = samples()
EVENTS = {name: one.event for name, one in SAMPLES.items() if one.event is not None}
OPEN = RecordMaker(Privacy(b"key", keep_recipients=True))
USUAL_PRIVACY = Privacy(b"key", pseudonymise=("user", "client_ip"))
USUAL = RecordMaker(USUAL_PRIVACY)
CONTEXT = Context(SAMPLES_NODE, SAMPLES_AT_MS)


def haul(*datagrams: bytes, maker: RecordMaker = OPEN) -> Haul:
    made = Haul()
    for datagram in datagrams:
        maker.take(datagram, SAMPLES_NODE, SAMPLES_AT_MS, made)
    assert made.received == len(made.records) + made.discarded.total()
    return made


def record(entry: dict[str, Any], maker: RecordMaker = OPEN) -> OutRecord:
    (one,) = haul(written(entry), maker=maker).records
    return one


def parsed(value: bytes) -> PostedEvent:
    event = zonemta_log.parse(value, CONTEXT)
    assert isinstance(event, PostedEvent)
    return event


def mail(**fields: Any) -> dict[str, Any]:
    return {"id": "1a1fb6f862e000f66e", "action": "ACCEPTED", **fields}


@pytest.mark.parametrize("name", EVENTS)
def test_an_entry_is_the_event_that_the_plugin_makes_of_it(name: str) -> None:
    (one,) = haul(SAMPLES[name].datagram).records
    event = parsed(one.value)
    drop_empty(event)
    found = json.loads(encode(event))
    found["timestamp"] = rfc3339(epoch_ms(found["timestamp"]))
    told = header(one.headers, "id")
    assert told is not None
    assert {"event_id": told.decode(), **found} == EVENTS[name]


def test_records_have_the_key_and_the_headers_of_hooks() -> None:
    (one,) = haul(SAMPLES["ACCEPTED"].datagram).records
    assert one.key == b"1a1fb6f862e000f66e"
    assert [name for name, _ in one.headers] == ["id", "source", "feed", "origin", "received"]
    assert [value for _, value in one.headers][1:] == [
        b"zonemta",
        b"log_remote",
        b"192.0.2.9",
        b"1795219944425",
    ]


def test_phase_1_knows_the_feed_and_makes_outbound_events_of_it() -> None:
    (one,) = haul(SAMPLES["REJECTED/capacity"].datagram).records
    event = parsed(one.value)
    drop_empty(event)
    check_fields(event, suspicious=True)
    form = forms()["zonemta", "log_remote"]
    head = Head("zonemta", "log_remote", SAMPLES_NODE, SAMPLES_AT_MS, "now", b"", form)
    Normaliser().apply(event, "id", head, SAMPLES_AT_MS)
    assert (event.direction, event.mta_node) == ("outbound", SAMPLES_NODE)
    assert (event.bounce_class, event.response_code) == ("mailbox_full", 452)
    assert event.user == "alice@example.com"


def test_undefined_is_one_byte_and_no_binary_data() -> None:
    entry = mail(host=Undefined(), ip="127.0.0.2", note=None, httpResponse=Undefined())
    assert decode(written(entry)) == mail(ip="127.0.0.2", note=None)
    with pytest.raises(msgspec.DecodeError):
        msgspec.msgpack.decode(SAMPLES["ACCEPTED"].datagram)


def test_all_of_the_format_is_read() -> None:
    entry: dict[str, Any] = {
        "numbers": [0, 127, -1, -32, -(1 << 31), (1 << 31) - 1, 1 << 40, 0.5],
        "others": [True, False, None, b"raw", {"a": [{}]}],
        "text": "ł" * 300,
    }
    assert decode(written(entry)) == entry


def test_the_standard_of_today_is_read_too() -> None:
    entry = mail(response="250 " + "x" * 60, data=b"\x00\x01", seq="001")
    assert decode(msgspec.msgpack.encode(entry)) == entry


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"{}",
        b"rubbish",
        b"\xc1",
        b"\x81\xa1a",
        b"\xde\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x81\x01\x01",
        b"\x81\xa1a\xa2\xff\xfe",
        b"\x91" * 60_000,
        b"\x80\x80",
        SAMPLES["ACCEPTED"].datagram[:-1],
        SAMPLES["ACCEPTED"].datagram + b"\x00",
    ],
)
def test_what_is_no_entry_is_counted_as_malformed(datagram: bytes) -> None:
    with pytest.raises(RecordError):
        decode(datagram)
    assert haul(datagram).discarded == {Reason.MALFORMED: 1}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, Reason.MISSING_FIELD),
        ({"id": "a"}, Reason.MISSING_FIELD),
        ({"action": "QUEUED"}, Reason.MISSING_FIELD),
        (mail(id=5), Reason.MISSING_FIELD),
        (mail(id="a\nb"), Reason.INVALID_FIELD),
        (mail(id="a" * 256), Reason.INVALID_FIELD),
    ],
)
def test_an_entry_without_a_usable_id_or_action_is_counted_by_its_fault(
    entry: dict[str, Any], reason: Reason
) -> None:
    assert haul(written(entry)).discarded == {reason: 1}


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("QUEUE_BOUNCE", Noise.QUEUE_BOUNCE),
        ("SPAMCHECK", Noise.SPAMCHECK),
        ("VIRUSCHECK", Noise.VIRUSCHECK),
        ("QUEUE_POLL", Noise.QUEUE_POLL),
        ("OTHER", Noise.OTHER),
        ("queued", Noise.OTHER),
    ],
)
def test_actions_that_are_no_events_are_noise_by_kind(action: str, kind: Noise) -> None:
    made = haul(written({"id": "a", "action": action}))
    assert (made.records, made.discarded, made.noise) == ([], {Drop.NOISE: 1}, {kind: 1})


def test_the_id_tells_attempts_apart_and_reads_numbers_as_javascript_does() -> None:
    ids = {event_id(mail(seq="001", defcount=count)) for count in (None, 1, 2)}
    assert len(ids) == 3
    assert (
        event_id(mail(defcount=2.0)) == event_id(mail(defcount=2)) == event_id(mail(defcount="2"))
    )
    assert event_id(mail()) == event_id(mail(seq=""))
    assert event_id(mail(seq=True)) == event_id(mail(seq="true"))


def test_nothing_is_stored_that_is_not_on_the_list() -> None:
    (one,) = haul(SAMPLES["QUEUED/authenticated"].datagram).records
    assert not {"subject", "headerFrom", "md5", "originhost", "transhost"} & set(
        json.loads(one.value)
    )
    odd = record(mail(to={"a": 1}, response=["x"], size=b"1", zone="default"))
    assert set(json.loads(odd.value)) == {"id", "action", "zone"}


def test_privacy_comes_before_anything_is_stored() -> None:
    entry = mail(
        to='"b,c"@example.net,eve@example.org',
        recipient="eve@example.org",
        returnPath="alice@example.com",
        user="alice",
        src="192.0.2.7",
        response="550 <eve@example.org> unknown",
        description="to eve@example.org",
    )
    one = record(entry, USUAL)
    for hidden in ("eve", "alice", "b,c", "192.0.2.7"):
        assert hidden not in one.value.decode()
    kept = json.loads(one.value)
    assert kept["to"].split(",") == [
        USUAL_PRIVACY.address('"b,c"@example.net'),
        USUAL_PRIVACY.address("eve@example.org"),
    ]
    event = parsed(one.value)
    assert event.client_ip == USUAL_PRIVACY.hash("192.0.2.7")
    assert event_id(entry).encode() == header(one.headers, "id")


def test_an_empty_sender_stays_empty_under_privacy() -> None:
    event = parsed(record(mail(**{"from": "<>"}), USUAL).value)
    assert (event.from_address, event.is_dsn) == ("", True)
    assert parsed(record(mail(), USUAL).value).from_address is None


def test_a_field_that_is_out_of_range_is_left_out() -> None:
    event = parsed(
        record(mail(size=-1, defcount=10**9, to="a" * 400 + "@example.net", zone="z" * 300)).value
    )
    assert (event.size_bytes, event.attempt, event.to_domain) == (None, None, "example.net")
    assert event.zone == "z" * 255
    event = parsed(record(mail(action="QUEUED", score=1e9, body=1 << 40)).value)
    assert (event.spam_score, event.size_bytes) == (None, None)


@pytest.mark.parametrize("value", [b"", b"[]", b'{"id":"a"}', b'{"action":"QUEUE_POLL"}'])
def test_a_record_that_is_no_event_is_refused_by_the_parser(value: bytes) -> None:
    with pytest.raises(RecordError):
        zonemta_log.parse(value, CONTEXT)
