"""GELF on the raw topic to events, through phase 1: the table of messages and the traps of logins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.core.errors import RecordError
from pipeline.core.posted import PostedEvent, check_fields
from pipeline.core.timestamp import epoch_ms
from pipeline.enrich.forms import forms
from pipeline.enrich.head import Head
from pipeline.enrich.normalise import Normaliser, drop_empty
from pipeline.enrich.parse import gelf, wildduck
from pipeline.enrich.parsing import Context, Skip
from tests.kit.gelf import captured, sample

RECEIVED = 1_763_663_020_000
CONTEXT = Context("192.0.2.9", RECEIVED)


def parsed(message: dict[str, Any], *, mta_events: bool = True) -> PostedEvent | Skip:
    value = json.dumps(message).encode()
    is_login = any(name.startswith("_auth_") for name in message)
    if is_login:
        return wildduck.parse(value, CONTEXT)
    return gelf.parse(value, CONTEXT, mta_events=mta_events)


def event(message: dict[str, Any]) -> PostedEvent:
    """Return what phase 1 makes of *message*."""
    made = parsed(message)
    assert isinstance(made, PostedEvent), made
    drop_empty(made)
    check_fields(made, suspicious=True)
    source = "wildduck" if "auth" in str(made.event_type) else "gelf"
    form = forms(gelf_mta_events=True)[source, "gelf"]
    head = Head(source, "gelf", "192.0.2.9", RECEIVED, "now", b"", form)
    assert made.timestamp is not None
    Normaliser().apply(made, "id", head, epoch_ms(made.timestamp))
    return made


def test_a_delivery_says_who_where_and_how() -> None:
    made = event(sample("mta_accepted"))
    assert (made.event_type, made.direction, made.user) == (
        "delivered",
        "outbound",
        "alice@example.com",
    )
    assert (made.queue_id, made.seq, made.zone) == ("1a1fb726424000f370", "001", "default")
    assert (made.mx_host, made.mx_ip, made.sending_ip) == (
        "mx1.example.net",
        "192.0.2.25",
        "203.0.113.10",
    )
    assert (made.to_domain, made.response_code, made.mta_node) == (
        "example.net",
        250,
        "mta1.example.com",
    )


@pytest.mark.parametrize(
    ("name", "event_type", "bounce_class", "sending_ip"),
    [
        ("mta_deferred", "deferred", "greylisted", "203.0.113.11"),
        ("mta_deferred_network_no_ip", "deferred", "network", None),
        ("mta_bounced", "bounced", "invalid_recipient", "203.0.113.10"),
    ],
)
def test_a_failure_has_its_class_and_no_address_where_none_was_used(
    name: str, event_type: str, bounce_class: str, sending_ip: str | None
) -> None:
    made = event(sample(name))
    assert (made.event_type, made.sending_ip) == (event_type, sending_ip)
    assert made.bounce_class == bounce_class


def test_a_deferral_counts_its_attempts() -> None:
    assert event(sample("mta_deferred")).attempt == 1


def test_a_message_that_is_queued_is_one_event_with_its_recipients() -> None:
    made = event(sample("mta_queued"))
    assert (made.event_type, made.recipients, made.size_bytes) == ("sent", 2, 390)
    assert (made.client_ip, made.user, made.to_domain) == (
        "198.51.100.20",
        "alice@example.com",
        None,
    )
    assert not made.is_dsn


@pytest.mark.parametrize("change", [{"_interface": "bounce"}, {"_from": None}])
def test_generated_mail_and_mail_without_a_sender_are_dsns(change: dict[str, Any]) -> None:
    made = event({**sample("mta_queued"), **change})
    assert made.is_dsn
    assert made.user is None


@pytest.mark.parametrize(
    ("message", "error_code"),
    [
        (sample("mta_dropped"), "suppressed"),
        ({**sample("mta_dropped"), "_response": "spam"}, "dropped"),
        ({**sample("mta_dropped"), "short_message": "MTA [DELETED] x"}, "deleted"),
        (sample("mta_noqueue"), None),
        (
            {
                "_component": "mta",
                "short_message": "[RCPT TO]",
                "_allowed": "no",
                "_rate_limit": "x",
                "_user": "alice@example.com",
            },
            "rate_limit",
        ),
    ],
)
def test_dropped_stands_for_three_things_that_the_bracket_word_tells_apart(
    message: dict[str, Any], error_code: str | None
) -> None:
    made = event(message)
    assert (made.event_type, made.error_code) == ("rejected", error_code)


def test_a_submitter_is_named_before_the_bracket() -> None:
    made = event(sample("mta_noqueue"))
    assert (made.user, made.login) == ("alice", "alice@example.com")
    made = event({**sample("mta_noqueue"), "_user": "6b00e0e81af430f16da7f801"})
    assert made.user == "alice@example.com"  # an id is no name, so it is the sender's


@pytest.mark.parametrize(
    ("change", "event_type", "error_code"),
    [
        ({}, "received", None),
        ({"_stored": "yes"}, "received", None),
        ({"_no_store": "yes", "_dropped": "yes"}, "rejected", "dropped"),
        (
            {"_no_store": "yes", "_failure": "yes", "_err_code": "OverQuota"},
            "deferred",
            "OverQuota",
        ),
    ],
)
def test_what_haraka_processed_is_received_unless_it_was_not_stored(
    change: dict[str, Any], event_type: str, error_code: str | None
) -> None:
    made = event({**sample("mx_process_received"), **change})
    assert (made.event_type, made.direction) == (event_type, "inbound")
    assert (made.error_code, made.user, made.client_ip) == (error_code, None, "192.0.2.77")
    assert made.from_domain == "example.org"


def test_what_haraka_denied_is_rejected_with_its_code() -> None:
    made = event(sample("mx_deny_rejected"))
    assert (made.event_type, made.error_code) == ("rejected", "NO_SUCH_USER")


def test_a_forward_is_mail_between_our_own_programs() -> None:
    message = {**sample("mx_process_received"), "short_message": "MX [Queued forward] x"}
    made = event(message)
    assert (made.event_type, made.direction, made.user) == ("sent", "internal", None)


def test_the_mta_s_mail_is_a_shadow_unless_it_is_told_by_nothing_else() -> None:
    assert parsed(sample("mta_accepted"), mta_events=False) is Skip.SHADOW
    assert isinstance(parsed(sample("mx_process_received"), mta_events=False), PostedEvent)


@pytest.mark.parametrize(
    "message",
    [{}, {"_component": "x", "short_message": "[QUEUED]"}, {"_component": "mta"}],
)
def test_what_is_about_neither_mail_nor_logins_is_noise(message: dict[str, Any]) -> None:
    assert parsed(message) is Skip.NOISE
    assert wildduck.parse(json.dumps(message).encode(), CONTEXT) is Skip.NOISE


def test_a_login_counts_once_by_the_handler_s_message() -> None:
    made = event(sample("mta_login_ok_handler"))
    assert (made.event_type, made.auth_result, made.error_code) == (
        "auth_succeeded",
        "succeeded",
        None,
    )
    assert (made.user, made.auth_scope, made.auth_method, made.client_ip) == (
        "alice@example.com",
        "smtp",
        "asp",
        "198.51.100.20",
    )
    assert parsed(sample("mta_login_ok_plugin_same_login")) is Skip.SHADOW


@pytest.mark.parametrize("field", ["_xclient", "_require_asp"])
def test_the_plugin_s_message_counts_where_wildduck_writes_none(field: str) -> None:
    made = event(
        {
            "short_message": "[AUTH FAIL]",
            "_auth_fail": "yes",
            "_username": "alice@example.com",
            field: "yes",
        }
    )
    assert (made.event_type, made.auth_result) == ("auth_failed", "failed")


def test_captured_logins_have_their_results_and_a_failure_has_no_mail_action() -> None:
    logins = [message for message in captured() if "_auth_result" in message]
    made = [event(message) for message in logins]
    assert [(one.auth_result, one.error_code) for one in made] == [
        ("succeeded", None),
        ("failed", "unknown"),
        ("failed", "fail"),
        ("failed", "disabled"),
        ("failed", "ratelimited"),
    ]
    assert {one.direction for one in made} == {None}


def test_a_name_that_was_hashed_gives_no_user() -> None:
    made = event(
        {"short_message": "x", "_auth_result": "fail", "_username_hash": "0123456789abcdef"}
    )
    assert (made.user, made.login) == (None, "0123456789abcdef")


def test_a_scope_that_wildduck_does_not_know_is_other() -> None:
    message = {"short_message": "x", "_auth_result": "fail", "_scope": "anything"}
    assert event(message).auth_scope == "other"


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [(1763663000.123, 1763663000.123), ("1763663000.5", 1763663000.5), (None, RECEIVED / 1000)],
)
def test_a_timestamp_may_be_text_or_missing(timestamp: object, seconds: float) -> None:
    made = parsed({**sample("mta_accepted"), "timestamp": timestamp})
    assert isinstance(made, PostedEvent)
    assert made.timestamp == seconds


def test_a_message_without_host_is_the_sender_s() -> None:
    message = sample("mta_accepted")
    del message["host"]
    assert event(message).mta_node == "192.0.2.9"


@pytest.mark.parametrize("value", [b"", b"[]", b"{", b'{"_auth_result":"fail","_ip":["x"]}'])
def test_rubbish_is_an_error_of_the_record_or_nothing(value: bytes) -> None:
    for parse in (wildduck.parse, forms(gelf_mta_events=True)["gelf", "gelf"].parse):
        assert parse is not None
        try:
            parse(value, CONTEXT)
        except RecordError:
            continue


def test_a_field_that_is_too_long_is_an_error_of_the_record() -> None:
    with pytest.raises(RecordError):
        parsed({**sample("mta_accepted"), "_zone": "x" * 300})
    with pytest.raises(RecordError):
        parsed({"_auth_result": "fail", "_username": "x" * 400})
