"""Events as lines for people."""

from __future__ import annotations

import pytest

from mailstream.event_line import STYLES, line
from pipeline.core.event import EVENT_TYPES, MailEvent

BOUNCE = MailEvent(
    source="zonemta",
    mta_node="mta1",
    timestamp="2026-01-02T03:04:05.678Z",
    event_type="bounced",
    user="alice@example.com",
    to_domain="gmail.com",
    sending_ip="192.0.2.10",
    response_code=552,
    enhanced_status="5.2.2",
    bounce_class="mailbox_full",
    response_message="5.2.2 full\r\n\x1b[2J\u202emoc",
)


def test_a_line_tells_when_what_who_and_what_was_answered() -> None:
    assert line(BOUNCE).plain == (
        "03:04:05.678 bounced        zonemta/mta1 alice@example.com -> gmail.com 192.0.2.10 552 5.2.2 "
        "mailbox_full 5.2.2 full\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
        "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}moc"
    )


def test_a_line_of_a_probe_tells_its_route_and_how_it_ended() -> None:
    probe = MailEvent(
        source="probe",
        origin="probe1",
        timestamp="2026-01-02T03:04:05.678Z",
        event_type="probe",
        route="own-to-gmail",
        outcome="send_failed",
        to_domain="gmail.com",
        error_message="535 5.7.8 no",
    )
    assert line(probe).plain == (
        "03:04:05.678 probe          probe/probe1 own-to-gmail send_failed -> gmail.com 535 5.7.8 no"
    )


@pytest.mark.parametrize("kind", [*EVENT_TYPES, "unheard_of", None])
def test_every_kind_of_event_is_one_line(kind: str | None) -> None:
    text = line(MailEvent(event_type=kind)).plain
    assert (kind or "-") in text
    assert text.isprintable()


def test_colours_are_of_known_kinds() -> None:
    assert STYLES.keys() <= set(EVENT_TYPES)
