"""Records that cannot be used become dead letters with their reason."""

from __future__ import annotations

import pytest

from pipeline.core.seen import decode_run
from tests.kit.enrich import (
    HOUR,
    RECEIVED,
    ZONEMTA,
    Phase1,
    Raw,
    events,
    headers,
    mail,
    posted,
    raw,
    values,
    written,
)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Raw(0, b"{}", ()), "missing_header"),
        (Raw(0, b"{}", headers()[1:]), "missing_header"),
        (Raw(0, b"{}", headers("")), "missing_header"),
        (Raw(0, b"{}", headers("é")), "missing_header"),
        (Raw(0, b"{}", headers("x" * 1001)), "missing_header"),
        (Raw(0, b"{}", headers(source="cpanel")), "missing_header"),
        (Raw(0, b"{}", headers(origin="")), "missing_header"),
        (Raw(0, b"{}", headers(origin="x" * 257)), "missing_header"),
        (Raw(0, b"{}", (*headers()[:3], ("origin", b"\xff"), headers()[4])), "missing_header"),
        (Raw(0, b"{}", headers(received="")), "missing_header"),
        (Raw(0, b"{}", headers(received="-1")), "missing_header"),
        (Raw(0, b"{}", headers(received="1e3")), "missing_header"),
        (Raw(0, b"{}", headers(received="9" * 14)), "missing_header"),
        (Raw(0, b"{}", headers(received="9" * 15)), "missing_header"),
        (Raw(0, b"{}", headers(received="0")), "missing_header"),
        (Raw(0, None, headers()), "malformed"),
        (Raw(0, b"", headers()), "malformed"),
        (Raw(0, b"\xff", headers()), "malformed"),
        (Raw(0, b'{"zone":"\xff"}', headers()), "malformed"),
        (Raw(0, b"[" * 100_000, headers()), "malformed"),
        (Raw(0, b'"text"', headers()), "malformed"),
        (Raw(0, b"{}", headers()), "missing_field"),
        (raw({"event_type": "sent"}), "missing_field"),
        (raw(posted(event_type="opened")), "unknown_event_type"),
        (raw(posted(user="_other")), "reserved_value"),
        (raw(posted(zone="a\x1fb")), "invalid_field"),
        (raw(posted(sending_ip="mta1")), "invalid_field"),
        (raw(posted(timestamp="yesterday")), "invalid_field"),
        (raw(posted(timestamp="2026-13-01T00:00:00.000Z")), "invalid_field"),
        (raw(posted(timestamp=1e300)), "invalid_field"),
        (raw(posted(size_bytes="7")), "invalid_field"),
    ],
)
def test_an_unusable_record_is_a_dead_letter_with_its_reason(record: Raw, reason: str) -> None:
    phase1 = Phase1()
    result = phase1.commit([record])
    (output,) = written(result, "dead")
    (letter,) = output.records
    assert (output.partition, letter.key) == (1, b"key")
    assert dict(letter.headers)["error"].startswith(f"{reason}: ".encode())
    assert phase1.count("mail_events_dead_total", "zonemta", reason) == 1
    assert (result.events, phase1.stats.dedupe_ids) == (0, 0)


def test_dead_letters_are_in_the_order_of_the_log() -> None:
    batch = [
        raw(posted(event_type="x"), 0),
        Raw(1, b"{}", ()),
        raw(mail(), 2),
        Raw(3, b"", headers()),
    ]
    (output,) = written(Phase1().batch(batch), "dead")
    assert [dict(letter.headers)["offset"] for letter in output.records] == [b"0", b"1", b"3"]


def test_headers_in_any_order_and_among_others_are_read() -> None:
    phase1 = Phase1()
    shuffled = (("other", b"x"), *reversed(headers("id-0")))
    renamed = tuple(reversed(headers("id-1")))
    value = raw(mail()).value
    assert phase1.commit([Raw(0, value, shuffled), Raw(1, value, renamed)]).events == 2
    assert phase1.commit([raw(mail(), 0), raw(mail(), 1)]).events == 0


def test_a_good_record_after_a_bad_one_of_the_same_id_is_an_event() -> None:
    bad, good = posted(event_type="x"), mail()
    batch = [
        raw(event, place, event_id="a") for place, event in enumerate([bad, bad, good, bad, good])
    ]
    phase1 = Phase1()
    result = phase1.commit([*batch, raw(good, 5, event_id="b")])
    assert [event["event_id"] for event in events(result)] == ["a", "b"]
    assert phase1.count("mail_events_dead_total", "zonemta", "unknown_event_type") == 2
    assert phase1.count("mail_events_duplicate_total", "zonemta") == 2


def test_a_bad_id_that_returns_after_the_horizon_within_a_batch_is_looked_at_again() -> None:
    phase1 = Phase1(horizon_ms=24_000)
    later = RECEIVED + 100_000
    batch = [
        raw(posted(event_type="x"), 0, event_id="a"),
        raw(mail(), 1, event_id="a"),
        raw(mail(), 2, event_id="a", received=later),
        raw(posted(event_type="x"), 3, event_id="a", received=later + 100_000),
    ]
    assert phase1.commit(batch).events == 2
    assert phase1.count("mail_events_dead_total", "zonemta", "unknown_event_type") == 2


def test_a_duplicate_before_a_bad_one_of_its_id_stays_a_duplicate() -> None:
    phase1 = Phase1(horizon_ms=24 * HOUR)
    phase1.commit([raw(mail(), 0, event_id="a")])
    later = RECEIVED + 26 * HOUR
    batch = [
        raw(mail(event_type="opened"), 1, event_id="a"),
        raw(mail(event_type="opened"), 2, event_id="a", received=later),
    ]
    result = phase1.commit(batch)
    assert len(values(result, "dead")) == 1
    assert phase1.count("mail_events_duplicate_total", "zonemta") == 1


def test_a_poison_record_is_a_dead_letter_with_its_seen_run() -> None:
    phase1 = Phase1()
    phase1.commit([raw(mail(), 0)])
    record = raw(mail(from_address="a@x.org"), 1)
    result = phase1.step.dead_letter(ZONEMTA, record, KeyError("a@x.org"), 0)
    assert phase1.count("mail_events_dead_total", "zonemta", "bug") == 0
    result.on_commit()
    assert phase1.count("mail_events_dead_total", "zonemta", "bug") == 1
    run = decode_run(values(result, "seen")[0])
    assert (run.start, run.end, run.received_ms, run.segments) == (1, 2, RECEIVED, [])
    (output,) = written(result, "dead")
    (letter,) = output.records
    assert b"a@x.org" not in letter.value
    assert dict(letter.headers)["error"] == b"bug: KeyError: ***@x.org'"
    assert result.events == 0
    assert phase1.commit([record]).events == 1
