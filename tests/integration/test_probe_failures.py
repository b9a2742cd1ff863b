"""What goes wrong on the way, made to by a real Postfix and a real Dovecot, and what it is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailstream.ports import free_port
from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import ErrorClass, Phase
from producers.sources.probe.token import new_token
from tests.kit.mail_target import MailTarget, mail_target
from tests.kit.probe_legs import Leg, Legs, in_a_loop, legs
from tests.kit.rude_mail import drops_after_data, port_of, serving

pytestmark = pytest.mark.integration
PLAIN_IMAP = "IMAP4rev1 LITERAL+ AUTH=PLAIN"


@pytest.fixture(scope="module")
def target() -> Iterator[MailTarget]:
    with mail_target() as target:
        yield target


@pytest.fixture
def probe() -> Iterator[Legs]:
    with legs() as probe:
        yield probe


def smtp(account: Account, **changes: Any) -> Account:
    assert account.smtp is not None
    return replace(account, smtp=replace(account.smtp, **changes))


def imap(account: Account, **changes: Any) -> Account:
    assert account.imap is not None
    return replace(account, imap=replace(account.imap, **changes))


def how(leg: Leg) -> tuple[Phase, ErrorClass, int]:
    tries = 0 if leg.sent is None else leg.sent.tries
    return leg.failure.phase, leg.failure.error_class, tries


@in_a_loop
async def test_a_wrong_smtp_password_names_where_it_comes_from(
    target: MailTarget, probe: Legs
) -> None:
    a = smtp(target.account("probe-a"), password="the-wrong-secret")
    leg = await probe.send(a, target.account("probe-b"))
    assert how(leg) == (Phase.AUTH, ErrorClass.AUTH, 1)
    assert (leg.failure.smtp_code, leg.failure.enhanced_status) == (535, "5.7.8")
    assert "PROBE_A_SMTP_PASS" in leg.failure.text
    assert "the-wrong-secret" not in repr((leg, a))


@in_a_loop
async def test_a_wrong_imap_password_names_where_it_comes_from(
    target: MailTarget, probe: Legs
) -> None:
    b = imap(target.account("probe-b"), password="the-wrong-secret")
    leg = await probe.receive(b, new_token(probe.key, "route", 1))
    assert how(leg) == (Phase.IMAP_AUTH, ErrorClass.AUTH, 0)
    assert "AUTHENTICATIONFAILED" in leg.failure.text
    assert "PROBE_B_IMAP_PASS" in leg.failure.text
    assert "the-wrong-secret" not in repr((leg, b))
    assert not leg.course.earlier, "a refused login is not tried again"


@pytest.mark.parametrize(
    ("name", "sender", "phase", "kind", "tries", "code"),
    [
        ("probe-b", "refused-from@example.test", "mail", "rejected", 1, 550),
        ("refused-rcpt", None, "rcpt", "rejected", 1, 550),
        ("nobody", None, "rcpt", "rejected", 1, 550),
        ("full-rcpt", None, "rcpt", "quota", 3, 452),
        ("refused-data", None, "data", "rejected", 1, 554),
        ("refused-end", None, "data", "rejected", 1, 550),
    ],
)
def test_refusals_are_told_by_phase_and_code(
    target: MailTarget,
    probe: Legs,
    name: str,
    sender: str | None,
    phase: str,
    kind: str,
    tries: int,
    code: int,
) -> None:
    @in_a_loop
    async def scenario() -> None:
        a = target.account("probe-a")
        leg = await probe.send(replace(a, address=sender or a.address), target.at(name))
        assert how(leg) == (phase, kind, tries)
        assert leg.failure.smtp_code == code == leg.course.reply_codes[phase]
        assert leg.sent is not None
        assert not leg.sent.accepted
        assert not leg.sent.uncertain
        assert Phase(phase) in leg.course.phases_ms

    scenario()


@in_a_loop
async def test_greylisting_is_overcome_by_coming_again_or_named(
    target: MailTarget, probe: Legs
) -> None:
    target.greylist.asked.clear()
    leg = await probe.send(target.account("probe-a"), target.at("grey"))
    assert leg.sent is not None
    assert (leg.sent.accepted, leg.sent.tries) == (True, 2)
    assert [(f.error_class, f.smtp_code) for f in leg.course.earlier] == [("throttled", 450)]

    target.greylist.asked.clear()
    target.greylist.patience = 100
    leg = await probe.send(target.account("probe-a"), target.at("grey"))
    target.greylist.patience = 1
    assert how(leg) == (Phase.RCPT, ErrorClass.THROTTLED, 3)


@in_a_loop
async def test_a_connection_dropped_after_data_is_uncertain_and_never_tried_again(
    target: MailTarget, probe: Legs
) -> None:
    b = target.account("probe-b")
    with serving(drops_after_data(target.ports.plain)) as way:
        a = smtp(target.account("probe-a"), port=port_of(way), starttls=False, username=None)
        leg = await probe.send(a, b)
        assert way.calls == 1
    assert how(leg) == (Phase.DATA, ErrorClass.DROPPED, 1)
    assert leg.sent is not None
    assert (leg.sent.accepted, leg.sent.uncertain) == (False, True)
    got = await probe.receive(b, leg.token)
    assert got.found is not None
    assert got.found.copies == 1


@pytest.mark.parametrize("days", [30, -1])
def test_a_certificate_that_is_not_good_is_named_and_its_days_are_read(days: int) -> None:
    @in_a_loop
    async def scenario() -> None:
        with mail_target(days=days) as target, legs() as probe:
            a, b = target.account("probe-a"), target.account("probe-b")
            if days > 0:  # good, but of an authority that we do not trust
                a, b = smtp(a, ca_file=None), imap(b, ca_file=None)
            sent = await probe.send(a, b)
            got = await probe.receive(b, sent.token)
            assert how(sent) == (Phase.TLS, ErrorClass.CERTIFICATE, 1)
            assert how(got) == (Phase.IMAP_TLS, ErrorClass.CERTIFICATE, 0)
            assert round(sent.course.certificate_days["smtp"]) == days
            assert round(got.course.certificate_days["imap"]) == days
            trusting = smtp(a, verify=False), imap(b, verify=False)
            _, got = await probe.round(*trusting)
            assert got.found is not None
            assert round(got.course.certificate_days["imap"]) == days

    scenario()


@in_a_loop
async def test_every_way_of_sending_works(target: MailTarget, probe: Legs, tmp_path: Path) -> None:
    a, b = target.account("probe-a"), target.account("probe-b")
    client = target.authority.issue("client")
    ways = [
        smtp(a, source_address="127.0.0.5"),
        smtp(a, port=target.ports.plain, starttls=False, username=None, password=None),
        smtp(a, port=target.ports.plain, username=None, helo="probe.example.test"),
        smtp(a, port=target.ports.client_cert, client_cert=client.cert, client_key=client.key),
        smtp(target.account("umlaut")),
    ]
    for way in ways:
        _, got = await probe.round(way, b)
        assert got.found is not None
    for without in (smtp(a, port=target.ports.client_cert), smtp(a, client_cert=tmp_path / "none")):
        leg = await probe.send(without, b)
        assert leg.failure.error_class in {ErrorClass.TLS, ErrorClass.DROPPED, ErrorClass.CONFIG}


@in_a_loop
async def test_every_way_of_looking_works(target: MailTarget, probe: Legs) -> None:
    a, b = target.account("probe-a"), target.account("probe-b")
    starttls = imap(b, port=target.ports.imap, ssl=False, starttls=True)
    _, got = await probe.round(a, starttls)
    assert got.found is not None
    assert Phase.IMAP_TLS in got.course.phases_ms
    _, got = await probe.round(a, target.account("umlaut"))
    assert got.found is not None


@in_a_loop
async def test_without_uidplus_and_idle_only_own_mail_is_expunged() -> None:
    with mail_target(capability=PLAIN_IMAP) as target, legs() as probe:
        a, b = target.account("probe-a"), target.account("probe-b")
        with target.client("probe-b") as client:
            _, got = await probe.round(a, b)
            assert got.found is not None
            client.noop()
            assert client.search() == []

            client.append("INBOX", b"Subject: of another client\r\n\r\n", flags=[b"\\Deleted"])
            _, got = await probe.round(a, b)
            assert got.found is not None
            client.noop()
            assert len(client.search("DELETED")) == 2
            assert client.search("UNDELETED") == []
        assert await probe.others(b) == [], "what is marked is done with"


@in_a_loop
async def test_a_server_that_is_not_there_is_tried_until_the_time_is_up(
    target: MailTarget, probe: Legs
) -> None:
    nobody = free_port("127.0.0.1")
    leg = await probe.send(smtp(target.account("probe-a"), port=nobody), target.account("probe-b"))
    assert how(leg) == (Phase.CONNECT, ErrorClass.CONNECT, 1)
    got = await probe.receive(
        imap(target.account("probe-b"), port=nobody), leg.token, timeout_s=0.5
    )
    assert how(got) == (Phase.IMAP_CONNECT, ErrorClass.CONNECT, 0)
    assert got.course.earlier


def test_an_unknown_account_section_is_said(target: MailTarget, probe: Legs) -> None:
    @in_a_loop
    async def scenario() -> None:
        a = replace(target.account("probe-a"), smtp=None, imap=None)
        assert how(await probe.send(a, a)) == (Phase.CONNECT, ErrorClass.CONFIG, 1)
        got = await probe.receive(a, "mst")
        assert how(got) == (Phase.IMAP_CONNECT, ErrorClass.CONFIG, 0)

    scenario()
