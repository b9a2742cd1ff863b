"""Phase 1 as the transport sees it."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from pipeline.core.batch import TopicPartition
from pipeline.core.event import id_hash, partition_of
from pipeline.core.families import KEY_SEPARATOR
from pipeline.core.pane import FUTURE_AFTER_MS, pane_of
from pipeline.core.seen import decode_run
from pipeline.enrich.head import MAX_RECEIVED_MS
from pipeline.kit.settings import ApiKey
from tests.kit.enrich import (
    HOUR,
    NAMES,
    PARTITIONS,
    RECEIVED,
    ZONEMTA,
    Phase1,
    frames,
    mail,
    posted,
    raw,
    rows,
    values,
    written,
)

PANE = RECEIVED - 10_000
"""The pane of ``posted()``'s timestamp."""


def test_a_batch_writes_events_frames_and_one_run_in_their_places() -> None:
    phase1 = Phase1()
    result = phase1.commit([raw(mail(), 5), raw(mail(), 6)])
    assert result.events == 2
    (output,) = written(result, "events")
    assert (output.partition, [record.key for record in output.records]) == (1, [b"key", b"key"])
    (output,) = written(result, "seen")
    assert output.partition == 1
    run = decode_run(output.records[0].value)
    assert (run.topic, run.partition, run.start, run.end) == ("mail.raw.zonemta", 1, 5, 7)
    assert run.received_ms == RECEIVED
    (segment,) = run.segments
    ids = sorted(id_hash("zonemta", f"id-{offset}") for offset in (5, 6))
    assert segment.column().tolist() == ids
    for partition, frame in frames(result).items():
        assert (frame.topic, frame.partition, frame.watermark_ms) == (
            *("mail.raw.zonemta", 1, RECEIVED),
        )
        for family in frame.families:
            for key in family.keys:
                assert partition_of(key.encode(), PARTITIONS) == partition


def test_the_rows_of_an_event_are_those_of_its_families() -> None:
    found = rows(frames(Phase1().batch([raw(mail(zone="z1"))])).values())
    at = ("delivered", PANE)
    assert found == {
        ("user", ("alice",), *at): {"count": 1, "recipients": 0, "bytes": 0},
        ("ip", ("192.0.2.1",), *at): {"count": 1, "last": RECEIVED - 1000},
        ("ip_provider", ("192.0.2.1", "google"), *at): {"count": 1},
        ("domain", ("x.org",), *at): {"count": 1},
        ("destination", ("gmail.com",), *at): {"count": 1},
        ("node", ("mta1", "z1", "outbound"), *at): {"count": 1},
        ("client_ip", ("198.51.100.1", "outbound"), *at): {"count": 1},
    }


def test_volume_is_taken_from_what_was_accepted() -> None:
    batch = [
        raw(mail(event_type="sent", recipients=3, size_bytes=1 << 34), 0),
        raw(mail(event_type="sent", size_bytes=1), 1),
        raw(mail(event_type="sent", recipients=0), 2),
        raw(mail(recipients=9, size_bytes=9), 3),
    ]
    found = rows(frames(Phase1().batch(batch)).values())
    assert found["user", ("alice",), "sent", PANE] == {
        "count": 3,
        "recipients": 4,
        "bytes": (1 << 34) + 1,
    }
    assert found["user", ("alice",), "delivered", PANE]["recipients"] == 0


def test_absent_fields_are_none_where_the_family_says_so_and_missing_elsewhere() -> None:
    phase1 = Phase1()
    bare = {"timestamp": posted()["timestamp"], "event_type": "bounced", "message_id": "m"}
    refused = {**bare, "to_domain": "gmail.com", "error_code": "ECONNREFUSED", "mta_node": "m"}
    batch = [raw(bare, 0), raw(refused, 1), raw({**refused, "zone": "none"}, 2)]
    found = rows(frames(phase1.commit(batch)).values())
    assert found["failure", ("none", "google", "network"), "bounced", PANE] == {"count": 2}
    assert found["node", ("m", "none", "outbound"), "bounced", PANE] == {"count": 2}
    assert phase1.tally.counters["mail_events_unattributed_total"] == {
        ("user",): 3,
        ("ip",): 3,
        ("ip_provider",): 3,
        ("failure",): 1,
        ("domain",): 3,
        ("destination",): 1,
        ("destination_failure",): 1,
        ("node",): 1,
        ("client_ip",): 3,
    }


def test_only_customer_mail_is_in_customer_families() -> None:
    batch = [
        raw(mail(direction="inbound"), 0),
        raw(mail(from_address=""), 1),
        raw(mail(event_type="probe"), 2),
        raw(mail(event_type="auth_failed"), 3),
    ]
    found = rows(frames(Phase1().batch(batch)).values())
    logins = {"user_auth", "client_ip_auth", "user_auth_result", "client_ip_auth_result"}
    assert {row[0] for row in found} == {"node", "client_ip", *logins}
    assert found["client_ip", ("198.51.100.1", "outbound"), "delivered", PANE] == {"count": 1}
    assert found["client_ip", ("198.51.100.1", "inbound"), "delivered", PANE] == {"count": 1}


@pytest.mark.parametrize("source", ["zonemta", "haraka"])
@pytest.mark.parametrize("kind", ["expired", "complained", "bounced_late"])
def test_what_follows_a_delivery_is_counted_of_the_sender_and_is_no_failed_delivery(
    kind: str, source: str
) -> None:
    event = mail(event_type=kind, direction="outbound", response_message="550 5.1.1 unknown user")
    tp = TopicPartition(NAMES.of(f"raw.{source}"), 1)
    phase1 = Phase1()
    result = phase1.commit([raw(event, source=source)], tp)
    found = rows(frames(result).values())
    assert {(family, event_type) for family, _key, event_type, _pane in found} == {
        (family, kind)
        for family in (
            *("user", "ip", "ip_provider", "domain", "destination", "node", "client_ip"),
        )
    }
    assert found["user", ("alice",), kind, PANE] == {"count": 1, "recipients": 0, "bytes": 0}
    assert phase1.count("mail_provider_outcomes_total", "google", kind) == 1
    assert phase1.tally.counters["mail_failures_total"] == {}


def test_a_bounce_that_came_back_late_has_a_class() -> None:
    event = mail(
        event_type="bounced_late", enhanced_status="5.1.1", response_message="no such user"
    )
    made = Phase1().event(event)
    assert (made["bounce_class"], made["bounce_category"]) == ("invalid_recipient", "hard")


def test_logins_are_counted_by_account_address_and_in_the_total() -> None:
    phase1 = Phase1()
    login = mail(event_type="auth_failed", auth_scope="imap", user="ann@a.example")
    unknown = mail(event_type="auth_failed", user=None)
    result = phase1.commit([raw(login, 0), raw(unknown, 1)])
    found = rows(frames(result).values())
    assert found["user_auth", ("ann@a.example", "failed", "imap"), "auth_failed", PANE]
    assert found["user_auth", ("_unknown", "failed", "none"), "auth_failed", PANE]
    assert phase1.count("mail_events_total", "zonemta", "auth_failed", "none") == 2


def test_late_events_are_written_and_counted_but_in_no_frame() -> None:
    phase1 = Phase1()
    late = mail(timestamp=(RECEIVED - 25 * HOUR) / 1000)
    result = phase1.commit([raw(late)])
    assert (result.events, frames(result)) == (1, {})
    assert phase1.count("mail_events_late_total", "zonemta") == 1
    assert phase1.count("mail_events_total", "zonemta", "delivered", "outbound") == 1


def test_events_from_the_future_count_at_their_ingest() -> None:
    phase1 = Phase1()
    result = phase1.commit([raw(mail(timestamp=(RECEIVED + HOUR) / 1000))])
    assert phase1.count("mail_events_future_total", "zonemta") == 1
    assert {row[3] for row in rows(frames(result).values())} == {RECEIVED}


def test_the_tally_and_the_stats_change_after_the_commit_only() -> None:
    phase1 = Phase1()
    batch = [
        raw(mail(delivery_time_ms=100, queue_time_ms=2500, smtp_time_ms=70), 0),
        raw(mail(), 1),
    ]
    result = phase1.batch(batch)
    assert phase1.tally.counters["mail_events_total"] == {}
    assert (phase1.stats.origins, phase1.stats.dedupe_ids) == ({}, 0)
    result.on_commit()
    assert phase1.count("mail_events_total", "zonemta", "delivered", "outbound") == 2
    assert phase1.count("mail_ip_outcomes_total", "192.0.2.1", "google", "delivered") == 2
    assert phase1.count("mail_provider_outcomes_total", "google", "delivered") == 2
    buckets, total = phase1.tally.histograms["mail_provider_delivery_seconds"]["google",]
    assert (buckets.tolist()[0], buckets.sum(), total) == (1, 1, 0.1)
    buckets, total = phase1.tally.histograms["mail_provider_queue_seconds"]["google",]
    assert (buckets.tolist()[4], buckets.sum(), total) == (1, 1, 2.5)
    assert phase1.tally.histograms["mail_provider_smtp_seconds"]["google",][1] == 0.07
    assert phase1.tally.histograms["mail_ip_delivery_seconds"]["192.0.2.1",][1] == 0.1
    times = phase1.stats.origins["zonemta", "default"]
    assert (times.received_ms, times.event_ms, times.delay_ms) == (RECEIVED, RECEIVED - 1000, 1000)
    assert phase1.stats.dedupe_ids == 2


def test_failures_are_counted_by_class_and_delivery_times_where_they_are_attributed() -> None:
    phase1 = Phase1()
    nowhere = mail(delivery_time_ms=5.5, sending_ip=None, to_domain=None)
    failed = mail(event_type="bounced", response_message="550 5.1.1 no")
    phase1.commit([raw(nowhere, 0), raw(failed, 1)])
    assert phase1.count("mail_failures_total", "google", "bounced", "invalid_recipient") == 1
    assert phase1.tally.histograms["mail_ip_delivery_seconds"] == {}
    assert phase1.count("mail_provider_outcomes_total", "google", "bounced") == 1


def test_replies_that_no_rule_knows_are_counted_by_what_they_share() -> None:
    phase1 = Phase1()
    odd = [
        mail(event_type=kind, response_code=599, response_message=f"599 <{n}@x.org> not from {ip}")
        for n, (kind, ip) in enumerate([("bounced", "192.0.2.1"), ("deferred", "2001:db8::1")])
    ]
    twice = [raw(odd[place % 2], place, event_id=f"e{place % 2}") for place in range(4)]
    unusable = raw(mail(event_type="opened"), 4, event_id="e0")
    silent = raw(mail(event_type="bounced"), 5)
    known = raw(mail(event_type="bounced", response_message="550 5.1.1 no"), 6)
    phase1.commit([unusable, *twice, silent, known])
    assert phase1.tally.counters["mail_unclassified_replies_total"] == {
        ("599 <address> not from <ip>",): 2,
        ("none",): 1,
    }


def test_every_time_of_receipt_that_is_taken_has_panes() -> None:
    event_ms = MAX_RECEIVED_MS + FUTURE_AFTER_MS
    latest = raw(mail(timestamp=event_ms / 1000), received=MAX_RECEIVED_MS)
    found = rows(frames(Phase1().batch([latest])).values())
    assert {pane for _, _, _, pane in found} == {pane_of(event_ms)}


def test_the_longest_name_of_an_api_key_is_an_origin() -> None:
    name = ApiKey(name="\U0001f600" * 64, key=SecretStr("k")).name
    assert Phase1().event(mail(), origin=name)["origin"] == name


def test_newest_times_never_go_back() -> None:
    phase1 = Phase1()
    phase1.commit([raw(mail(), 0, received=RECEIVED + 5000)])
    older = mail(timestamp=(RECEIVED - HOUR) / 1000)
    phase1.commit([raw(older, 1, origin="default"), raw(older, 2, origin="mta9")])
    times = phase1.stats.origins["zonemta", "default"]
    assert (times.received_ms, times.event_ms, times.delay_ms) == (
        *(RECEIVED + 5000, RECEIVED - 1000, 6000),
    )
    assert phase1.stats.origins["zonemta", "mta9"].delay_ms == HOUR


def test_the_newest_time_of_a_batch_is_not_that_of_its_last_record() -> None:
    phase1 = Phase1()
    ages = [7, 3, 5, 9]
    phase1.commit(
        [
            raw(mail(timestamp=RECEIVED / 1000 - age), place, origin=f"o{place % 2}")
            for place, age in enumerate(ages)
        ]
    )
    assert phase1.stats.origins["zonemta", "o0"].delay_ms == 5_000
    assert phase1.stats.origins["zonemta", "o1"].delay_ms == 3_000


def test_origins_from_outside_are_bounded() -> None:
    phase1 = Phase1()
    phase1.commit([raw(mail(), place, origin=f"o{place}") for place in range(1500)])
    assert len(phase1.stats.origins) == 1000


def test_a_duplicate_is_counted_and_writes_nothing() -> None:
    phase1 = Phase1()
    phase1.commit([raw(mail(), 0, event_id="a"), raw(mail(), 1, event_id="a")])
    result = phase1.commit([raw(mail(), 2, event_id="a")])
    assert phase1.count("mail_events_duplicate_total", "zonemta") == 2
    assert [output.topic for output in result.outputs] == [NAMES.of("seen")]
    run = decode_run(values(result, "seen")[0])
    assert (run.start, run.end, run.segments) == (2, 3, [])


def test_the_same_id_of_another_source_is_another_event() -> None:
    phase1 = Phase1()
    batch = [raw(mail(), 0, event_id="a"), raw(mail(), 1, event_id="a", source="haraka")]
    assert phase1.commit(batch).events == 2


def test_an_empty_batch_writes_its_run() -> None:
    phase1 = Phase1()
    result = phase1.step.on_batch(ZONEMTA, [], 3, 9, 0)
    result.on_commit()
    run = decode_run(values(result, "seen")[0])
    assert (run.start, run.end, run.segments, len(result.outputs)) == (3, 9, [], 1)


def test_keys_are_joined_by_the_separator() -> None:
    result = Phase1().batch([raw(mail())])
    keys = {
        key
        for frame in frames(result).values()
        for family in frame.families
        if family.family == "ip_provider"
        for key in family.keys
    }
    assert keys == {f"192.0.2.1{KEY_SEPARATOR}google"}


def test_a_batch_over_a_wide_span_of_time_and_many_values_is_exact() -> None:
    batch = [
        raw(mail(timestamp=(RECEIVED - place * 9_000) / 1000, user=f"u{place}"), place)
        for place in range(3000)
    ]
    found = rows(frames(Phase1().batch(batch)).values())
    users = {row: sums["count"] for row, sums in found.items() if row[0] == "user"}
    assert len(users) == 3000
    assert set(users.values()) == {1}
