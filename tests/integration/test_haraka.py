"""The Haraka plugin in a real Haraka: mail and logins arrive on ``mail.events``, once."""

from __future__ import annotations

import smtplib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from mailstream.ports import free_port
from tests.kit.haraka import Haraka
from tests.kit.mail_sink import REFUSING, mail_sink
from tests.kit.mta_site import (
    PASSWORD,
    SENDER,
    Event,
    MtaSite,
    assert_ids_are_distinct,
    message_id,
    of,
)
from tests.kit.stand import stand

pytestmark = pytest.mark.integration

Site: TypeAlias = MtaSite[Haraka]


@pytest.fixture(scope="module")
def site(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("haraka")
    ingest, smtp = free_port("127.0.0.1"), free_port("127.0.0.1")
    plugin = {
        "url": f"http://127.0.0.1:{ingest}",
        "node": "mx1.example.com",
        "spool": folder / "spool",
        "flush_ms": 200,
        "retry_max_ms": 500,
        "sending_ip": "127.0.0.2",
    }
    with ExitStack() as stack:
        st = stack.enter_context(
            stand(broker, folder / "mailstream", ingest={"listen": f"127.0.0.1:{ingest}"})
        )
        st.ingest()
        st.worker()
        sink = stack.enter_context(mail_sink(smtp))
        mta = Haraka(_made(folder / "haraka"), plugin, {"alice": PASSWORD}, sink=smtp)
        stack.callback(mta.end)
        mta.start()
        yield MtaSite(st, mta, sink)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_each_recipient_has_its_own_outcome_and_bounces_their_dsns(site: Site) -> None:
    recipients = ["ok@a.example", "hard@a.example", "tmp@a.example", "ok@b.example"]
    site.send(site.mta.port, "several", *recipients, f"ok@{REFUSING}", user="alice")
    outcomes = Counter(
        {
            ("a.example", "delivered"): 1,
            ("a.example", "deferred"): 1,
            ("a.example", "bounced"): 2,
            ("b.example", "delivered"): 1,
            (REFUSING, "deferred"): 1,
            (REFUSING, "bounced"): 1,
        }
    )

    def found(events: Sequence[Event]) -> Counter[tuple[str, str]]:
        mine = of(events, message_id=message_id("several"))
        return Counter(
            (one["to_domain"], one["event_type"]) for one in mine if one["event_type"] != "sent"
        )

    def dsns(events: Sequence[Event]) -> list[Event]:
        return of(events, is_dsn=True, event_type="delivered")

    events = site.events(
        lambda all_: (
            found(all_) >= outcomes
            and len(dsns(all_)) >= 3
            and bool(of(all_, event_type="auth_succeeded"))
        )
    )
    assert found(events) == outcomes
    (sent,) = of(events, event_type="sent")
    assert (sent["recipients"], sent["user"], sent["direction"]) == (5, "alice", "outbound")
    assert sent["client_ip"] == "127.0.0.1"
    for one in of(events, message_id=message_id("several")):
        assert one["queue_id"] == sent["queue_id"]
        assert one["user"] == "alice"
        assert (one["source"], one["mta_node"]) == ("haraka", "mx1.example.com")
    (deferred,) = of(events, event_type="deferred", to_domain="a.example")
    assert (deferred["response_code"], deferred["enhanced_status"]) == (451, "4.7.1")
    assert deferred["attempt"] == 1
    hard, given_up = sorted(
        of(events, event_type="bounced", to_domain="a.example"),
        key=lambda one: -one["response_code"],
    )
    assert (hard["response_code"], hard["attempt"]) == (550, 1)
    assert hard["sending_ip"] == "127.0.0.2"
    assert (given_up["response_code"], given_up["attempt"]) == (451, 2)
    assert given_up["to_hash"] == deferred["to_hash"]
    (refused,) = of(events, event_type="deferred", to_domain=REFUSING)
    assert "response_code" not in refused
    assert refused["error_message"].startswith("Tried all MXs")
    assert "hard@a.example" not in str(events)
    assert [to for sender, to in site.sink.taken if not sender] == [SENDER] * 3
    (login,) = of(events, event_type="auth_succeeded")
    assert (login["user"], login["auth_method"]) == ("alice", "PLAIN")
    assert PASSWORD not in str(events)


def test_mail_for_us_and_refused_mail(site: Site) -> None:
    site.send(site.mta.port, "inbound", "in@here.example", "too@here.example")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        site.send(site.mta.port, "denied", "deny@here.example")
    events = site.events(
        lambda all_: (
            len(of(all_, event_type="received")) >= 2 and bool(of(all_, event_type="rejected"))
        )
    )
    received = of(events, event_type="received")
    assert [(one["direction"], one["to_domain"]) for one in received] == [
        ("inbound", "here.example")
    ] * 2
    (rejected,) = of(events, event_type="rejected")
    assert (rejected["response_code"], rejected["error_code"]) == (550, "policy")
    assert (rejected["direction"], rejected["to_domain"]) == ("inbound", "here.example")


def test_logins_that_fail(site: Site) -> None:
    with (
        smtplib.SMTP("127.0.0.1", site.mta.port, timeout=30) as client,
        pytest.raises(smtplib.SMTPAuthenticationError),
    ):
        client.login("mallory", "guess")
    events = site.events(lambda all_: bool(of(all_, event_type="auth_failed")))
    failed = of(events, event_type="auth_failed")
    assert not any("user" in one for one in failed)  # nobody is called that
    assert "mallory" not in str(events)
    assert {one["client_ip"] for one in failed} == {"127.0.0.1"}
    assert "guess" not in str(events)


def test_a_restart_while_ingest_is_away_loses_nothing_and_doubles_nothing(site: Site) -> None:
    assert site.stand.ingest().stop() == 0
    mails = 10
    for n in range(mails):
        site.send(site.mta.port, f"restart-{n}", "in@restart.example")
    site.mta.stop()
    site.mta.start()
    site.stand.ingest()
    events = site.events(lambda all_: len(of(all_, to_domain="restart.example")) >= mails)
    mine = of(events, to_domain="restart.example")
    assert Counter(one["event_type"] for one in mine) == {"received": mails}
    assert_ids_are_distinct(events)
