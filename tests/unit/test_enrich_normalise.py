"""Posted events to ``MailEvent``, one rule at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kit.enrich import HOUR, RECEIVED, Phase1, Raw, headers, posted, raw
from tests.kit.enrich import events as events_of


@pytest.fixture(name="phase1")
def _phase1() -> Phase1:
    return Phase1()


def test_an_event_is_written_with_all_that_follows_from_it(phase1: Phase1) -> None:
    event = posted(
        event_type="bounced",
        from_address="<Alice@Example.org>",
        to_domain="GMAIL.com.",
        sending_ip="::ffff:192.0.2.1",
        response_code=550,
        response_message="550-5.1.1 no such user\n550 5.1.1 x",
        queue_id="q1",
        attempt=2,
    )
    assert phase1.event(event, event_id="e1", origin="mta1") == {
        "event_id": "e1",
        "source": "zonemta",
        "feed": "hook",
        "origin": "mta1",
        "timestamp": "2026-01-01T11:59:59.000Z",
        "received": "2026-01-01T12:00:00.000Z",
        "event_type": "bounced",
        "direction": "outbound",
        "user": "Alice@example.org",
        "from_user": "Alice",
        "from_domain": "example.org",
        "from_address": "Alice@example.org",
        "to_domain": "gmail.com",
        "sending_ip": "192.0.2.1",
        "message_id": "<m@x>",
        "queue_id": "q1",
        "attempt": 2,
        "response_code": 550,
        "enhanced_status": "5.1.1",
        "response_message": "550-5.1.1 no such user\n550 5.1.1 x",
        "provider": "google",
        "bounce_class": "invalid_recipient",
        "bounce_category": "hard",
    }


def test_fields_that_only_we_set_are_ours(phase1: Phase1) -> None:
    event = posted(
        event_id="theirs",
        source="x",
        feed="x",
        origin="x",
        received="x",
        is_probe=True,
        late=True,
        provider="x",
        bounce_class="x",
        bounce_category="x",
    )
    made = phase1.event(event, event_id="ours")
    assert (made["event_id"], made["source"], made["feed"], made["origin"], made["received"]) == (
        *("ours", "zonemta", "hook", "default", "2026-01-01T12:00:00.000Z"),
    )
    absent = {"is_probe", "late", "provider", "bounce_class", "bounce_category"}
    assert not absent & made.keys()
    assert phase1.event(posted(late="no", bounce_class=7)).keys().isdisjoint(absent)


@pytest.mark.parametrize(
    ("timestamp", "written"),
    [
        ("2026-01-01T11:59:59.000Z", "2026-01-01T11:59:59.000Z"),
        ("2026-01-01t11:59:59.000z", "2026-01-01T11:59:59.000Z"),
        ("2026-01-01t11:59:59.123Z", "2026-01-01T11:59:59.123Z"),
        ("2026-01-01T11:59:59Z", "2026-01-01T11:59:59.000Z"),
        ("2026-01-01T11:59:59.1239Z", "2026-01-01T11:59:59.123Z"),
        ("2026-01-01T12:59:59.5+01:00", "2026-01-01T11:59:59.500Z"),
        ("2026-01-01T11:58:60.000Z", "2026-01-01T11:59:00.000Z"),
        (1767268799, "2026-01-01T11:59:59.000Z"),
        (1767268799.25, "2026-01-01T11:59:59.250Z"),
    ],
)
def test_times_have_one_spelling(phase1: Phase1, timestamp: Any, written: str) -> None:
    assert phase1.event(posted(timestamp=timestamp))["timestamp"] == written


@pytest.mark.parametrize(
    ("at_ms", "late", "written"),
    [
        (RECEIVED - 24 * HOUR, False, "2025-12-31T12:00:00.000Z"),
        (RECEIVED - 24 * HOUR - 1, True, "2025-12-31T11:59:59.999Z"),
        (RECEIVED + 300_000, False, "2026-01-01T12:05:00.000Z"),
        (RECEIVED + 300_001, False, "2026-01-01T12:00:00.000Z"),
    ],
)
def test_late_and_future_are_told_by_the_ingest_time(
    phase1: Phase1, at_ms: int, late: bool, written: str
) -> None:
    made = phase1.event(posted(timestamp=at_ms / 1000))
    assert made.get("late", False) is late
    assert made["timestamp"] == written


@pytest.mark.parametrize(
    ("source", "given", "direction"),
    [
        ("zonemta", None, "outbound"),
        ("haraka", None, "inbound"),
        ("zonemta", "", "outbound"),
        ("zonemta", "internal", "internal"),
        ("haraka", "outbound", "outbound"),
    ],
)
def test_a_direction_is_given_or_the_sources_own(
    phase1: Phase1, source: str, given: str | None, direction: str
) -> None:
    made = phase1.event(posted(direction=given), source=source)
    assert made["direction"] == direction


@pytest.mark.parametrize(
    "sender",
    [
        {"from_address": ""},
        {"from_address": "<>"},
        {"from": ""},
        {"from": "<>"},
        {"from_address": "a@x.org", "zone": "bounces"},
        {"from_address": "a@x.org", "is_dsn": True},
    ],
)
def test_a_dsn_has_no_user(phase1: Phase1, sender: dict[str, Any]) -> None:
    made = phase1.event(posted(**sender, user="alice"))
    assert made["is_dsn"] is True
    assert "user" not in made
    assert made.get("from_address") == ("a@x.org" if "@" in str(sender) else None)


def test_a_sender_that_is_not_told_is_no_dsn(phase1: Phase1) -> None:
    assert "is_dsn" not in phase1.event(posted(from_address=None))


@pytest.mark.parametrize(
    ("direction", "user"),
    [("outbound", "alice"), ("inbound", None), ("internal", None), ("local", None)],
)
def test_only_outbound_mail_has_a_user(phase1: Phase1, direction: str, user: str | None) -> None:
    made = phase1.event(posted(direction=direction, user="alice[phone]", login=None))
    assert made.get("user") == user
    assert made.get("login") == (None if user is None else "phone")


def test_a_login_keeps_who_logged_in(phase1: Phase1) -> None:
    login = posted(event_type="auth_failed", user="Bob@X.org", from_address="a@y.org")
    assert phase1.event(login, source="haraka")["user"] == "Bob@x.org"
    del login["user"]
    assert "user" not in phase1.event(login)


@pytest.mark.parametrize(
    ("event_type", "given", "result", "error_code"),
    [
        ("auth_failed", {}, "failed", None),
        ("auth_failed", {"auth_result": "failed"}, "failed", None),
        ("auth_failed", {"auth_result": "disabled"}, "failed", "disabled"),
        ("auth_failed", {"auth_result": "no", "error_code": "E1"}, "failed", "E1"),
        ("auth_succeeded", {"auth_result": "success"}, "succeeded", None),
    ],
)
def test_a_login_has_one_of_two_results_and_a_failure_keeps_the_finer_word(
    phase1: Phase1, event_type: str, given: dict[str, Any], result: str, error_code: str | None
) -> None:
    made = phase1.event(posted(event_type=event_type, **given))
    assert (made["auth_result"], made.get("error_code")) == (result, error_code)
    assert "direction" not in made


@pytest.mark.parametrize(
    ("source", "given", "made"),
    [
        ("zonemta", {"source_ip": "192.0.2.1"}, {"sending_ip": "192.0.2.1"}),
        (
            "zonemta",
            {"source_ip": "192.0.2.1", "sending_ip": "192.0.2.2"},
            {"sending_ip": "192.0.2.2"},
        ),
        ("zonemta", {"hostname": "mta1", "source_ip": "192.0.2.1"}, {"mta_node": "mta1"}),
        ("zonemta", {"hostname": "mta1", "mta_node": "mta2"}, {"mta_node": "mta2"}),
        ("haraka", {"source_ip": "192.0.2.1"}, {"client_ip": "192.0.2.1", "sending_ip": None}),
        (
            "haraka",
            {"source_ip": "192.0.2.1", "client_ip": "192.0.2.2"},
            {"client_ip": "192.0.2.2"},
        ),
        ("haraka", {"hostname": "mx1"}, {"mta_node": "mx1"}),
        ("haraka", {"hostname": "mx1", "mta_node": "mx2"}, {"mta_node": "mx2"}),
        ("haraka", {"hostname": "peer", "source_ip": "192.0.2.1"}, {"mta_node": None}),
        ("haraka", {"hostname": "peer", "source_ip": ""}, {"mta_node": "peer"}),
    ],
)
def test_aliases_mean_what_their_source_means(
    phase1: Phase1, source: str, given: dict[str, str], made: dict[str, str | None]
) -> None:
    event = phase1.event(posted(**given), source=source)
    assert {name: event.get(name) for name in made} == made


@pytest.mark.parametrize(
    ("given", "to_hash", "to_domain"),
    [
        ({"to": "0a1b@X.org"}, "0a1b", "x.org"),
        ({"to": "<0a1b@x.org>"}, "0a1b", "x.org"),
        ({"to": "@x.org"}, None, "x.org"),
        ({"to": "bob"}, None, None),
        ({"to": "0a1b@x.org", "to_domain": "Y.org", "to_hash": "ff"}, "ff", "y.org"),
        ({"to": "0a1b@"}, "0a1b", None),
    ],
)
def test_a_recipient_is_told_by_hash_and_domain(
    phase1: Phase1, given: dict[str, str], to_hash: str | None, to_domain: str | None
) -> None:
    made = phase1.event(posted(**given))
    assert (made.get("to_hash"), made.get("to_domain")) == (to_hash, to_domain)


def test_the_sender_s_address_wins_over_its_alias(phase1: Phase1) -> None:
    both = posted(**{"from": "a@x.org", "from_address": "b@y.org"})
    assert phase1.event(both)["from_address"] == "b@y.org"
    assert phase1.event(posted(**{"from": "<a@X.org>"}))["from_address"] == "a@x.org"


@pytest.mark.parametrize(
    ("mx_host", "to_domain", "provider"),
    [
        (None, "gmail.com", "google"),
        ("mx.google.com", "x.org", "google"),
        ("relay.x.org", "gmail.com", "google"),
        ("relay.x.org", "x.org", "other"),
        ("relay.x.org", None, "other"),
        (None, None, None),
        (".", "gmail.com", "google"),
        ("mx.google.com", "outlook.com", "google"),
    ],
)
def test_a_provider_is_told_by_mx_host_then_by_domain(
    phase1: Phase1, mx_host: str | None, to_domain: str | None, provider: str | None
) -> None:
    made = phase1.event(posted(mx_host=mx_host, to_domain=to_domain))
    assert made.get("provider") == provider


@pytest.mark.parametrize(
    ("given", "code", "status"),
    [
        ({"response_message": "550 5.1.1 x"}, 550, "5.1.1"),
        ({"response_message": "5.1.1 x", "response_code": 551}, 551, "5.1.1"),
        ({"response_message": "550 5.1.1 x", "enhanced_status": "5.2.2"}, 550, "5.2.2"),
        ({"response_message": "550 x", "enhanced_status": "nonsense"}, 550, None),
        ({"response_message": "said: 550 5.1.1 x", "response_code": 0}, 550, "5.1.1"),
        ({"response_code": 999}, None, None),
        ({"response_code": 550, "enhanced_status": "5.1.1"}, 550, "5.1.1"),
    ],
)
def test_codes_that_are_not_given_are_read_from_the_reply(
    phase1: Phase1, given: dict[str, Any], code: int | None, status: str | None
) -> None:
    made = phase1.event(posted(event_type="deferred", **given))
    assert (made.get("response_code"), made.get("enhanced_status")) == (code, status)


def test_of_a_success_only_the_start_of_the_reply_is_read(phase1: Phase1) -> None:
    made = phase1.event(posted(response_message="250 2.6.0 <x> Queued -> 250 2.1.5"))
    assert (made["response_code"], made["enhanced_status"]) == (250, "2.6.0")
    assert "response_code" not in phase1.event(posted(response_message="ok, said: 250 2.1.5"))


@pytest.mark.parametrize("event_type", ["deferred", "bounced", "rejected"])
def test_failures_have_a_class_whatever_the_outcome_was(phase1: Phase1, event_type: str) -> None:
    event = posted(event_type=event_type, error_code="ECONNREFUSED", error_message="refused")
    made = phase1.event(event)
    assert (made["event_type"], made["bounce_class"], made["bounce_category"]) == (
        *(event_type, "network", "network"),
    )


@pytest.mark.parametrize("event_type", ["sent", "delivered", "received", "expired", "probe"])
def test_what_did_not_fail_has_no_class(phase1: Phase1, event_type: str) -> None:
    made = phase1.event(posted(event_type=event_type, response_message="550 5.1.1 no"))
    assert "bounce_class" not in made


def test_addresses_have_one_spelling(phase1: Phase1) -> None:
    made = phase1.event(
        posted(sending_ip="2001:DB8::0:1", client_ip="0123456789abcdef", mx_ip="::ffff:192.0.2.9")
    )
    assert (made["sending_ip"], made["client_ip"], made["mx_ip"]) == (
        *("2001:db8::1", "0123456789abcdef", "192.0.2.9"),
    )
    assert "sending_ip" not in phase1.event(posted(sending_ip="0.0.0.0"))


def test_empty_texts_are_absent(phase1: Phase1) -> None:
    made = phase1.event(
        posted(zone="", mta_node="", login="", queue_id="", user="", from_user="", sending_ip="")
    )
    assert "" not in made.values()


def test_recipients_that_are_not_told_stay_so(phase1: Phase1) -> None:
    assert "recipients" not in phase1.event(posted(event_type="sent"))


def test_the_spelling_of_the_json_does_not_matter(phase1: Phase1) -> None:
    spaced = json.dumps(posted(from_address="ä@x.org", zone=""), indent=2).encode()
    (made,) = events_of(phase1.batch([Raw(0, spaced, headers("id-0"))]))
    (same,) = events_of(phase1.batch([raw(posted(from_address="ä@x.org"))]))
    assert made == same
