"""The recount is the judge: these are cases worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.oracle import HOUR, MINUTE, SECOND, Posted, Recount, Series, span
from tests.kit.oracle_senders import unwrapped
from tests.kit.scrape import Page, differences, folded
from tests.kit.traffic import CLASSES, Varied, plain, with_repeats

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z
FULL = 552, "5.2.2 Mailbox full, quota exceeded"


def posted(*, source: str = "zonemta", received_ms: int = NOON, **event: Any) -> Posted:
    event.setdefault("event_type", "delivered")
    event.setdefault("timestamp", "2026-01-01T12:00:00.000Z")
    return Posted(event, source, received_ms)


def shown(*events: Posted, now_ms: int = NOON, window: str = "1m") -> dict[Series, int]:
    at = Recount(events, CLASSES, ["probe@x.example"]).at(now_ms)
    return {series: value for (name, series), value in at.items() if name == window}


def test_a_window_ends_with_the_pane_that_is_open() -> None:
    assert span(MINUTE, NOON + 9_999) == (NOON - 50 * SECOND, NOON + 10 * SECOND)
    assert span(MINUTE, NOON + 10_000) == (NOON - 40 * SECOND, NOON + 20 * SECOND)
    assert span(5 * MINUTE, NOON) == (NOON - 290 * SECOND, NOON + 10 * SECOND)
    assert span(HOUR, NOON + 59_999) == (NOON - 59 * MINUTE, NOON + MINUTE)


@pytest.mark.parametrize(
    ("timestamp", "seen"),
    [
        ("2026-01-01T12:00:09.999Z", True),
        ("2026-01-01T12:00:10.000Z", False),
        ("2026-01-01T11:59:10.000Z", True),
        ("2026-01-01T11:59:09.999Z", False),
        ("2026-01-01T14:00:09+02:00", True),
        (1_767_268_750.5, True),
        (1_767_268_749.5, False),
    ],
)
def test_an_event_is_in_the_window_that_holds_its_pane(timestamp: str, seen: bool) -> None:
    event = posted(timestamp=timestamp, mta_node="m")
    assert bool(shown(event)) is seen


def test_every_family_gets_what_the_event_names() -> None:
    event = posted(
        event_type="bounced",
        from_user="ann@a.example",
        from_domain="a.example",
        to_domain="gmail.com",
        sending_ip="10.0.0.1",
        client_ip="192.0.2.1",
        mta_node="m1",
        zone="bulk",
        response_code=FULL[0],
        response_message=FULL[1],
    )
    assert shown(event) == {
        Series("mail_user_events", ("ann@a.example", "bounced")): 1,
        Series("mail_ip_events", ("10.0.0.1", "bounced")): 1,
        Series("mail_ip_provider_events", ("10.0.0.1", "google", "bounced")): 1,
        Series(
            "mail_failures",
            ("10.0.0.1", "google", CLASSES[FULL], "bounced"),
        ): 1,
        Series("mail_domain_events", ("a.example", "bounced")): 1,
        Series("mail_destination_events", ("gmail.com", "bounced")): 1,
        Series("mail_destination_failures", ("gmail.com", CLASSES[FULL])): 1,
        Series("mail_node_events", ("m1", "bulk", "outbound", "bounced")): 1,
        Series("mail_client_ip_events", ("192.0.2.1", "outbound", "bounced")): 1,
    }


def test_only_accepted_messages_add_recipients_and_bytes() -> None:
    who: dict[str, Any] = {"from_user": "ann@a.example", "recipients": 3, "size_bytes": 500}
    got = shown(posted(event_type="sent", **who), posted(event_type="delivered", **who))
    assert got[Series("mail_user_recipients", ("ann@a.example",))] == 3
    assert got[Series("mail_user_bytes", ("ann@a.example",))] == 500
    one = shown(posted(event_type="sent", from_user="ann@a.example"))
    assert one[Series("mail_user_recipients", ("ann@a.example",))] == 1


@pytest.mark.parametrize(
    "event",
    [
        {"from_address": ""},
        {"from": "<>"},
        {"zone": "bounces"},
        {"from": "probe@x.example"},
        {"to": "probe@x.example"},
        {"direction": "inbound"},
    ],
)
def test_what_is_not_customer_mail_is_in_the_families_of_all_mail_alone(
    event: dict[str, Any],
) -> None:
    event = {"from_user": "ann@a.example", "mta_node": "m", "sending_ip": "10.0.0.1", **event}
    assert {series.metric for series in shown(posted(**event))} == {"mail_node_events"}


def test_logins_are_in_no_family_of_mail() -> None:
    failed = posted(event_type="auth_failed", mta_node="m", client_ip="192.0.2.1")
    assert shown(failed) == {
        Series("mail_user_auth", ("_unknown", "failed", "none")): 1,
        Series("mail_client_ip_auth", ("192.0.2.1", "failed", "none")): 1,
    }


def test_a_login_counts_for_the_name_that_was_given() -> None:
    event = posted(event_type="auth_succeeded", user="ann@a.example", auth_scope="imap")
    assert shown(event) == {Series("mail_user_auth", ("ann@a.example", "succeeded", "imap")): 1}


def test_names_of_logins_are_counted_by_address_and_addresses_by_name() -> None:
    names: tuple[dict[str, Any], ...] = (
        {"user": "ann@a.example"},
        {"login": "0123abcd"},
        {"login": "0123abcd"},
        {},
    )
    tried = [
        posted(event_id=str(n), event_type="auth_failed", client_ip=f"192.0.2.{n % 2}", **name)
        for n, name in enumerate(names)
    ]
    assert {
        series: number
        for (window, series), number in Recount(tried, CLASSES).at(tried[0].received_ms).items()
        if window == "1h" and series.metric.endswith(("_users", "_client_ips"))
    } == {
        Series("mail_client_ip_auth_users", ("192.0.2.0", "failed")): 2,
        Series("mail_client_ip_auth_users", ("192.0.2.1", "failed")): 1,
        Series("mail_user_auth_client_ips", ("ann@a.example", "failed")): 1,
        Series("mail_user_auth_client_ips", ("_unknown", "failed")): 2,
    }


def test_the_source_tells_the_direction_unless_the_event_does() -> None:
    key = Series("mail_node_events", ("m", "none", "inbound", "delivered"))
    assert key in shown(posted(source="haraka", mta_node="m"))
    assert key in shown(posted(mta_node="m", direction="inbound"))


def test_the_accountable_sender_is_the_one_that_logged_in() -> None:
    def user(**event: Any) -> str | None:
        return Recount([posted(**event)], CLASSES).facts[0].user

    assert user(user="ann[phone]", from_user="bob@b.example") == "ann"
    assert user(from_user="bob", from_domain="b.example") == "bob@b.example"
    assert user(from_user="bob") is None
    assert user(**{"from": "bob@b.example"}) == "bob@b.example"
    assert user(source="haraka", from_user="bob@b.example") is None


def test_wrapped_senders_are_unwrapped() -> None:
    assert unwrapped("SRS0=Ab1=XY=b.example=bob@forward.example") == "bob@b.example"
    assert unwrapped("prvs=1234abcdef=bob@b.example") == "bob@b.example"
    assert unwrapped("news+ann=gmail.com@b.example") == "news@b.example"
    assert unwrapped("bob+tag@b.example") == "bob+tag@b.example"


def test_a_late_event_is_in_no_window_and_one_from_the_future_counts_when_received() -> None:
    day_old = posted(timestamp=NOON / 1000, received_ms=NOON + 24 * HOUR + 1, mta_node="m")
    assert not shown(day_old)
    assert Recount([day_old], CLASSES).facts[0].late
    ahead = posted(timestamp=(NOON + 5 * MINUTE + 1) / 1000, mta_node="m")
    assert shown(ahead)
    still = posted(timestamp=(NOON + 5 * MINUTE) / 1000, mta_node="m")
    assert not shown(still)
    assert shown(still, now_ms=NOON + 5 * MINUTE)


def test_copies_are_counted_once_and_equal_ids_of_two_sources_are_two_events() -> None:
    one = posted(event_id="x", mta_node="m")
    other = posted(event_id="x", mta_node="m", source="haraka")
    nameless = posted(queue_id="q", mta_node="m")
    recount = Recount([one, one, other, nameless, nameless], CLASSES)
    assert (len(recount.facts), recount.copies) == (3, 2)
    first = posted(mta_node="m")
    assert len(Recount([first, first._replace(position=1)], CLASSES).facts) == 2


def test_a_page_is_held_against_the_recount_series_by_series() -> None:
    text = (
        "# HELP mail_user_events x\n"
        'mail_user_events{window="1m",user="a\\"\\\\b",event_type="sent"} 2.0\n'
        'mail_user_events{window="1m",user="gone",event_type="sent"} 0.0\n'
        "up 1\n"
    )
    page = Page([text, text])
    key = "1m", Series("mail_user_events", ('a"\\b', "sent"))
    assert page.windowed() == {key: 4}
    assert page.total("up") == 2
    assert differences({key: 4}, page.windowed()) == []
    assert len(differences({key: 3}, page.windowed())) == 1
    assert len(differences({}, page.windowed())) == 1


def test_keys_without_a_name_are_summed_under_other() -> None:
    def key(*values: str) -> tuple[str, Series]:
        return "1h", Series("mail_ip_provider_events", values)

    expected = {key("1", "google", "sent"): 5, key("2", "google", "sent"): 2}
    expected |= {key("3", "google", "sent"): 1, key("3", "other", "sent"): 1}
    page = {key("1", "google", "sent"): 5, key("_other", "google", "sent"): 3}
    assert folded(expected, page | {key("_other", "other", "sent"): 1}) == {
        key("1", "google", "sent"): 5,
        key("_other", "google", "sent"): 3,
        key("_other", "other", "sent"): 1,
    }


def test_traffic_is_the_same_for_the_same_seed_and_of_all_kinds() -> None:
    made = [Varied(seed=7, now_ms=NOON).zonemta() for _ in range(2)]
    assert made[0] == made[1]
    traffic = Varied(seed=7, now_ms=NOON)
    events = [traffic.zonemta() for _ in range(5000)] + [traffic.haraka() for _ in range(500)]
    recount = Recount([Posted(event, "zonemta", NOON) for event in events], CLASSES)
    assert len(recount.facts) == 5500
    kinds = {fact.event_type for fact in recount.facts}
    assert {"sent", "delivered", "bounced", "deferred", "rejected", "expired", "received"} <= kinds
    assert {True, False} == {fact.late for fact in recount.facts}
    assert {True, False} == {fact.is_dsn for fact in recount.facts}
    repeated = with_repeats(events, 550, 1)
    assert len(repeated) == 6050
    assert repeated != events
    size = [len(one.body) for one in plain(500, seed=1, first_ms=NOON, last_ms=NOON + HOUR)]
    assert 380 < sum(size) / len(size) < 460
