"""Outcomes of probes to ``MailEvent`` and to what is counted of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstream.simulation.probes import ProbePlan, probes
from pipeline.core.batch import TopicPartition
from pipeline.core.errors import Reason, RecordError
from pipeline.core.posted import PROBE_FIELDS, PostedEvent
from pipeline.enrich.parse.probe import FIELDS, parse
from pipeline.enrich.parsing import Context
from tests.kit.enrich import (
    RECEIVED,
    Phase1,
    Raw,
    events,
    frames,
    headers,
    posted,
    raw,
    rows,
    values,
)
from tests.kit.raw_log import probe_record

TP = TopicPartition("mail.raw.probe", 1)
OUTCOME: dict[str, Any] = {
    "timestamp": "2026-01-01T11:59:59.000Z",
    "route": "own-to-gmail",
    "from": "own",
    "to": "gmail",
    "token": "t1",
    "outcome": "inbox",
    "phases_ms": {"dns": 1.2, "connect": 3, "found": 1200.5},
    "folder": "INBOX",
    "roundtrip_ms": 1234.5,
    "response_code": 250,
    "enhanced_status": "2.0.0",
    "response_message": "250 2.0.0 OK",
    "from_domain": "example.test",
    "to_domain": "Example.com",
    "mx_host": "aspmx.l.google.com.",
    "tries": 2,
}


def record(
    outcome: dict[str, Any], offset: int = 0, origin: str = "probe1", received: int = RECEIVED
) -> Raw:
    made = probe_record(outcome, origin, received)
    return Raw(offset, made.value, made.headers, made.key)


def event_of(outcome: dict[str, Any]) -> dict[str, Any]:
    (made,) = events(Phase1(TP).batch([record(outcome)], TP))
    return made


def test_an_outcome_is_written_with_all_that_it_tells() -> None:
    made = event_of(OUTCOME)
    assert len(made.pop("event_id")) == 32
    assert made == {
        "source": "probe",
        "feed": "probe",
        "origin": "probe1",
        "timestamp": "2026-01-01T11:59:59.000Z",
        "received": "2026-01-01T12:00:00.000Z",
        "event_type": "probe",
        "from_domain": "example.test",
        "to_domain": "example.com",
        "mx_host": "aspmx.l.google.com",
        "attempt": 2,
        "response_code": 250,
        "enhanced_status": "2.0.0",
        "response_message": "250 2.0.0 OK",
        "delivery_time_ms": 1234.5,
        "route": "own-to-gmail",
        "outcome": "inbox",
        "phases_ms": {"dns": 1.2, "connect": 3.0, "found": 1200.5},
        "folder": "INBOX",
        "provider": "google",
    }


def test_a_failure_says_in_which_phase_and_why() -> None:
    failed = {
        **{name: OUTCOME[name] for name in ("timestamp", "route", "token")},
        "outcome": "send_failed",
        "failed_phase": "auth",
        "error_class": "auth",
        "error": "535 5.7.8 no",
        "later": "fields that are not known are left out",
    }
    made = event_of(failed)
    assert (made["outcome"], made["failed_phase"], made["error_class"], made["error_message"]) == (
        *("send_failed", "auth", "auth", "535 5.7.8 no"),
    )
    assert made.keys().isdisjoint({"direction", "user", "bounce_class", "later", "phases_ms"})


def test_a_clock_that_was_set_back_loses_the_time_and_not_the_outcome() -> None:
    made = event_of(OUTCOME | {"outcome": "late", "roundtrip_ms": -3_600_000.0})
    assert made["outcome"] == "late"
    assert "delivery_time_ms" not in made


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"route": None}, Reason.MISSING_FIELD),
        ({"route": ""}, Reason.MISSING_FIELD),
        ({"outcome": None}, Reason.MISSING_FIELD),
        ({"timestamp": None}, Reason.MISSING_FIELD),
        ({"outcome": "vanished"}, Reason.INVALID_FIELD),
        ({"route": "_other"}, Reason.RESERVED_VALUE),
        ({"route": "a\x1fb"}, Reason.INVALID_FIELD),
        ({"route": 5}, Reason.INVALID_FIELD),
        ({"route": "r" * 256}, Reason.INVALID_FIELD),
        ({"phases_ms": {"dns": -1}}, Reason.INVALID_FIELD),
        ({"phases_ms": {str(number): 1 for number in range(65)}}, Reason.INVALID_FIELD),
        ({"phases_ms": [1]}, Reason.INVALID_FIELD),
        ({"roundtrip_ms": "soon"}, Reason.INVALID_FIELD),
        ({"timestamp": "yesterday"}, Reason.INVALID_FIELD),
    ],
)
def test_what_is_no_outcome_goes_to_the_dead_letters(wrong: dict[str, Any], reason: Reason) -> None:
    phase1 = Phase1(TP)
    bad = record(OUTCOME)._replace(value=json.dumps(OUTCOME | wrong).encode())
    result = phase1.commit([bad, record(OUTCOME, 1, origin="probe2")], TP)
    assert [made["origin"] for made in events(result)] == ["probe2"]
    assert values(result, "dead") == [bad.value]
    assert phase1.tally.counters["mail_events_dead_total"] == {("probe", reason.value): 1}


@given(st.binary(max_size=80) | st.sampled_from([b"[]", b"null", b"[" * 5000, b'{"a":\xff}']))
def test_any_bytes_are_an_outcome_or_are_refused(value: bytes) -> None:
    with pytest.raises(RecordError):
        parse(value, Context("probe1", RECEIVED))


@pytest.mark.parametrize("origin", ["a\x1fb", "a\nb", "_other", "_unknown"])
def test_an_origin_that_cannot_be_part_of_a_key_is_refused(origin: str) -> None:
    phase1 = Phase1(TP)
    result = phase1.commit([record(OUTCOME, origin=origin)], TP)
    assert events(result) == []
    assert phase1.count("mail_events_dead_total", "probe", "missing_header") == 1


def test_outcomes_are_counted_by_route_probe_and_outcome_and_add_nothing_to_mail() -> None:
    batch = [
        record(OUTCOME, 0),
        record(OUTCOME, 1),
        record(OUTCOME | {"outcome": "junk", "token": "t2"}, 2, "probe2"),
        record(OUTCOME | {"outcome": "lost", "token": "t3"}, 3),
        record(OUTCOME | {"outcome": "late", "token": "t3"}, 4),
    ]
    phase1 = Phase1(TP)
    found = rows(frames(phase1.commit(batch, TP)).values())
    counts = {(family, key): sums["count"] for (family, key, _, _), sums in found.items()}
    assert counts == {
        ("route", ("own-to-gmail", "probe1", "inbox")): 1,
        ("route", ("own-to-gmail", "probe2", "junk")): 1,
        ("route", ("own-to-gmail", "probe1", "lost")): 1,
        ("route", ("own-to-gmail", "probe1", "late")): 1,
        ("route_success", ("own-to-gmail", "probe1")): 1,
        ("route_success", ("own-to-gmail", "probe2")): 1,
    }
    assert phase1.count("mail_events_duplicate_total", "probe") == 1
    assert phase1.count("mail_events_total", "probe", "probe", "none") == 4
    assert phase1.tally.counters["mail_events_unattributed_total"] == {}
    assert phase1.tally.counters["mail_provider_outcomes_total"] == {}


@given(st.integers(0, 2**32))
@settings(max_examples=5, deadline=None)
def test_the_simulated_probes_are_ordered_repeatable_and_all_read(seed: int) -> None:
    plan = ProbePlan(seed, RECEIVED, 30 * 60_000)
    made = list(probes(plan))
    assert made == list(probes(plan))
    assert [one.at_ms for one in made] == sorted(one.at_ms for one in made)
    known = {*FIELDS, "from", "to", "token"}
    for one in made:
        assert one.record.keys() <= known
        read = parse(json.dumps(one.record).encode(), Context(one.origin, RECEIVED))
        assert isinstance(read, PostedEvent)
        assert read.outcome == one.record["outcome"]


def test_a_hook_cannot_tell_of_probes() -> None:
    theirs = {
        "route": "own-to-gmail",
        "outcome": "inbox",
        "failed_phase": "x",
        "error_class": "x",
        "phases_ms": {"x": 1},
        "folder": "x",
    }
    assert set(theirs) == set(PROBE_FIELDS)
    phase1 = Phase1()
    result = phase1.commit([raw(posted(**theirs, event_type="probe"))])
    (made,) = events(result)
    assert made.keys().isdisjoint(PROBE_FIELDS)
    assert not frames(result)
    assert phase1.tally.counters["mail_events_unattributed_total"] == {("route",): 1}


def test_a_record_of_another_source_on_the_topic_is_refused() -> None:
    phase1 = Phase1(TP)
    stray = Raw(0, json.dumps(OUTCOME).encode(), headers(source="probe"))
    assert events(phase1.commit([stray], TP)) == []
    assert phase1.count("mail_events_dead_total", "probe", "missing_header") == 1
