"""Rows of WHM to ``MailEvent``: the recorded ones, and hostile ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.batch import TopicPartition
from pipeline.core.errors import RecordError
from pipeline.core.posted import PostedEvent
from pipeline.enrich.parse.cpanel import parse
from pipeline.enrich.parsing import Context, Skip
from producers.privacy import Privacy
from producers.sources.cpanel.rows import RowReader
from tests.kit.enrich import Phase1, Raw, events
from tests.kit.whm import Row, row_like, sample_rows

TP = TopicPartition("mail.raw.cpanel", 0)
RECEIVED = 1_763_664_000_000
READER = RowReader("web1", "192.0.2.80", Privacy(b"key", keep_recipients=True))


def raw(row: Row, offset: int = 0, reader: RowReader = READER) -> Raw:
    """Return the record that the poller writes of *row*."""
    read = reader.read(row)
    assert read is not None
    record = reader.record(read, reader.stored(read).record, RECEIVED)
    return Raw(offset, record.value, record.headers, record.key)


def event_of(row: Row, reader: RowReader = READER) -> dict[str, Any]:
    """Return what phase 1 makes of *row*."""
    (made,) = events(Phase1(TP).batch([raw(row, reader=reader)], TP))
    return made


def test_a_delivery_is_written_with_all_that_follows_from_it() -> None:
    made = event_of(row_like("success"))
    assert made.pop("event_id")
    assert made == {
        "source": "cpanel",
        "feed": "poll",
        "origin": "web1",
        "timestamp": "2025-11-20T18:23:20.000Z",
        "received": "2025-11-20T18:40:00.000Z",
        "event_type": "delivered",
        "direction": "outbound",
        "user": "exampleco@web1",
        "auth_user": "alice@example.com",
        "from_user": "alice",
        "from_domain": "example.com",
        "from_address": "alice@example.com",
        "to_domain": "example.net",
        "to_hash": "bob",
        "sending_ip": "192.0.2.80",
        "client_ip": "198.51.100.20",
        "auth_method": "dovecot_login",
        "mta_node": "web1",
        "mx_host": "mx1.example.net",
        "mx_ip": "192.0.2.25",
        "router": "dkim_lookuphost",
        "transport": "dkim_remote_smtp",
        "queue_id": "1vMGx2-0000000A1bC-2dEf",
        "response_message": "Accepted",
        "queue_time_ms": 2000,
        "size_bytes": 10240,
        "provider": "other",
    }


def test_the_recorded_rows_become_what_happened() -> None:
    result = Phase1(TP).batch([raw(row, place) for place, row in enumerate(sample_rows())], TP)
    told = [
        (one["event_type"], one["direction"], one.get("user"), one.get("bounce_class"))
        for one in events(result)
    ]
    assert told == [
        ("delivered", "outbound", "exampleco@web1", None),
        ("received", "inbound", None, None),
        ("deferred", "outbound", "exampleco@web1", "greylisted"),
        ("deferred", "outbound", "exampleco@web1", "greylisted"),
        ("bounced", "outbound", "exampleco@web1", "invalid_recipient"),
    ]


@pytest.mark.parametrize(
    ("kind", "user", "remote", "event_type", "direction"),
    [
        ("success", "acct", 1, "delivered", "outbound"),
        ("success", "-remote-", 1, "delivered", "outbound"),
        ("success", "-remote-", 0, "received", "inbound"),
        ("success", "acct", 0, "received", "local"),
        ("success", "-system-", "0", "received", "local"),
        ("defer", "acct", 1, "deferred", "outbound"),
        ("defer", "acct", None, "deferred", "outbound"),
        ("defer", "-remote-", 0, "deferred", "inbound"),
        ("defer", "-remote-", "1", "deferred", "outbound"),
        ("failure", "acct", 1, "bounced", "outbound"),
        ("failure", "-system-", 0, "bounced", "outbound"),
        ("failure", "-remote-", 0, "rejected", "inbound"),
        ("failure", "-remote-", 1, "rejected", "inbound"),
    ],
)
def test_type_user_and_transport_say_what_happened(
    kind: str, user: str, remote: object, event_type: str, direction: str
) -> None:
    made = event_of(row_like(kind, user=user, transport_is_remote=remote))
    assert (made["event_type"], made["direction"]) == (event_type, direction)
    named = direction == "outbound" and user == "acct"
    assert made.get("user") == ("acct@web1" if named else None)
    assert made["mta_node"] == "web1"


def test_only_mail_that_left_has_an_address_of_ours_and_a_host_of_theirs() -> None:
    made = event_of(row_like("defer", transport_is_remote=0, host="localhost", ip="127.0.0.1"))
    assert not {"sending_ip", "mx_host", "mx_ip"} & made.keys()
    unknown = RowReader("web1", None, Privacy(b"key"))
    assert "sending_ip" not in event_of(row_like("success"), unknown)


def test_the_time_is_the_number_never_the_text() -> None:
    told = event_of(row_like("success"))
    for text in ("2001-01-01 00:00:00", "yesterday", None, 7):
        assert event_of(row_like("success", actiontime=text))["timestamp"] == told["timestamp"]


def test_mail_of_a_script_has_no_mailbox() -> None:
    assert "auth_user" not in event_of(row_like("success", senderauth="localuser"))
    assert "auth_user" not in event_of(row_like("success", senderauth=""))


def test_the_mailbox_that_logged_in_may_stand_beside_the_method() -> None:
    row = row_like("success", senderauth="dovecot_plain:office@example.com")
    made = event_of(row)
    assert (made["auth_method"], made["auth_user"]) == ("dovecot_plain", "office@example.com")
    hidden = RowReader("web1", None, Privacy(b"key", pseudonymise=["user"]))
    assert "office" not in json.dumps(event_of(row, hidden))


def test_a_bounce_of_exim_s_is_a_dsn_of_nobody() -> None:
    made = event_of(row_like("success", sender="", user="-system-"))
    assert made["is_dsn"]
    assert "user" not in made


def test_mail_for_a_program_has_the_address_that_it_was_sent_to() -> None:
    row = row_like("success", transport_is_remote=0, deliveredto="|/usr/bin/procmail")
    assert event_of(row)["to_domain"] == "example.net"


def test_a_message_of_which_nothing_has_become_is_pending() -> None:
    phase1 = Phase1(TP)
    result = phase1.commit([raw(row_like("inprogress"))], TP)
    assert events(result) == []
    assert phase1.count("mail_events_ignored_total", "cpanel", "pending") == 1


def test_recipients_are_hashed_and_pseudonyms_pass() -> None:
    hidden = RowReader("web1", None, Privacy(b"key", pseudonymise=["user", "client_ip"]))
    row = row_like("failure")
    text = json.dumps(event_of(row, hidden))
    assert not any(name in text for name in ("nobody", "alice", "exampleco", "198.51.100.20"))
    assert event_of(row, hidden)["to_domain"] == "example.net"
    assert event_of(row_like("success", user="-remote-"), hidden).get("user") is None


def test_numbers_as_texts_nulls_and_absent_fields_are_no_matter() -> None:
    texts = {name: str(value) for name, value in row_like("success").items()}
    given, expected = event_of(texts), event_of(row_like("success"))
    assert given == expected
    bare = {"type": "success", "msgid": "1v-1", "actionunixtime": "1763663000"}
    made = event_of(bare)
    assert (made["event_type"], made["direction"]) == ("received", "local")
    nulls = dict.fromkeys(row_like("success"))
    assert event_of({**nulls, **bare})["event_type"] == "received"


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"type": "archived", "msgid": "1v-1", "actionunixtime": 1},
        {"type": "success", "msgid": "1v-1"},
        {"type": "success", "actionunixtime": 1763663000, "transport_is_remote": 1},
        row_like("success", size=-5),
        row_like("success", router="r" * 5000),
    ],
)
def test_a_row_that_says_too_little_or_nonsense_is_a_dead_letter(row: Row) -> None:
    phase1 = Phase1(TP)
    result = phase1.commit([raw(row)], TP)
    (dead,) = [one for one in result.outputs if one.topic == "mail.dead"]
    assert len(dead.records) == 1


@given(
    st.dictionaries(
        st.sampled_from(sorted(row_like("success"))),
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats()
        | st.text(max_size=30)
        | st.lists(st.text(max_size=3), max_size=2),
    ),
    st.sampled_from(["success", "defer", "failure", "inprogress", "x"]),
)
def test_any_row_is_an_event_is_skipped_or_is_refused(fields: Row, kind: str) -> None:
    value = json.dumps({**row_like("success"), **fields, "type": kind}).encode()
    try:
        made = parse(value, Context("web1", RECEIVED))
    except RecordError:
        return
    assert isinstance(made, PostedEvent | Skip)
