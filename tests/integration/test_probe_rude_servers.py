"""Servers that hang, drip, flood and lie: each is cut off, named, and costs nobody else a thing."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from threading import Event

import pytest

from producers.sources.probe.accounts import Account, ImapAccount, SmtpAccount
from producers.sources.probe.attempt import ErrorClass, Phase
from producers.sources.probe.token import new_token
from tests.kit import rude_mail
from tests.kit.probe_legs import Leg, in_a_loop, legs
from tests.kit.rude_mail import port_of, serving

pytestmark = pytest.mark.integration
Talk = Callable[[socket.socket, Event], None]
SECRET = "the-secret"
GREETING = "220 rude ESMTP"
HELLO = "250-rude\r\n250 AUTH PLAIN LOGIN"


def smtp(port: int, *, login: bool = False, starttls: bool = False) -> Account:
    name = "user" if login else None
    account = SmtpAccount(
        "127.0.0.1", port, starttls=starttls, username=name, password=SECRET, timeout_s=0.3
    )
    return Account("rude", "a@example.test", smtp=account)


def imap(port: int, *, ssl: bool = False, starttls: bool = False) -> Account:
    account = ImapAccount(
        "127.0.0.1",
        port,
        ssl=ssl,
        starttls=starttls,
        username="user",
        password=SECRET,
        timeout_s=0.5,
        password_env="RUDE_PASS",
    )
    return Account("rude", "a@example.test", imap=account)


def send(talk: Talk, *, login: bool = False, starttls: bool = False) -> tuple[Leg, int]:
    """Return how sending went, and how often the server was called."""
    with legs() as probe, serving(talk) as server:
        account = smtp(port_of(server), login=login, starttls=starttls)
        leg = asyncio.run(probe.send(account, account))
        return leg, server.calls


def receive(talk: Talk, *, timeout_s: float = 0.3, ssl: bool = False, tls: bool = False) -> Leg:
    with legs() as probe, serving(talk) as server:
        account = imap(port_of(server), ssl=ssl, starttls=tls)
        token = new_token(probe.key, "route", 1)
        return asyncio.run(probe.receive(account, token, timeout_s=timeout_s))


@pytest.mark.parametrize("talk", [rude_mail.silent, rude_mail.dripping])
def test_smtp_that_does_not_get_to_the_point_is_cut_and_tried_three_times(talk: Talk) -> None:
    leg, calls = send(talk)
    assert (leg.failure.phase, leg.failure.error_class) == (Phase.CONNECT, ErrorClass.TIMEOUT)
    assert calls == 3


@pytest.mark.parametrize(
    ("lines", "phase", "kind", "calls"),
    [
        (["421 4.3.2 too busy"], "connect", "throttled", 3),
        (["554 5.7.1 not you"], "connect", "rejected", 1),
        (["HTTP/1.1 400 Bad Request"], "connect", "protocol", 1),
        ([GREETING, HELLO, "250 ok"], "rcpt", "dropped", 1),
        ([GREETING, HELLO, "530 5.7.0 log in first"], "mail", "auth", 1),
        ([GREETING, HELLO, "250 ok", "250 ok", "354 go"], "data", "dropped", 1),
        ([GREETING, HELLO, "250 ok", "552 5.2.2 full"], "rcpt", "quota", 1),
        ([GREETING, HELLO, "250 ok", "552 5.3.4 too big"], "rcpt", "rejected", 1),
        ([], "connect", "dropped", 1),
    ],
)
def test_what_smtp_says_is_typed(lines: list[str], phase: str, kind: str, calls: int) -> None:
    leg, called = send(rude_mail.saying(*lines))
    assert (leg.failure.phase, leg.failure.error_class, called) == (phase, kind, calls)
    assert leg.sent is not None
    assert leg.sent.uncertain == (phase == "data")


def test_starttls_that_is_not_offered_ends_it_before_the_login() -> None:
    leg, _ = send(rude_mail.saying(GREETING, HELLO, "500 no"), login=True, starttls=True)
    assert (leg.failure.phase, leg.failure.error_class) == (Phase.TLS, ErrorClass.TLS)
    assert "auth" not in leg.course.reply_codes


def test_a_password_that_a_server_repeats_is_not_passed_on() -> None:
    echo = f"535 5.7.8 wrong: {SECRET} AHVzZXIAdGhlLXNlY3JldA=="
    leg, calls = send(rude_mail.saying(GREETING, HELLO, echo), login=True)
    assert leg.failure.error_class is ErrorClass.AUTH
    assert SECRET not in repr(leg)
    assert "AHVzZXIAdGhlLXNlY3JldA==" not in repr(leg)
    assert calls == 1


@pytest.mark.parametrize("talk", [rude_mail.silent, rude_mail.dripping])
@pytest.mark.parametrize("ssl", [False, True])
def test_imap_that_does_not_get_to_the_point_is_cut(talk: Talk, ssl: bool) -> None:
    leg = receive(talk, ssl=ssl)
    phase = Phase.IMAP_TLS if ssl else Phase.IMAP_CONNECT
    assert leg.failure.phase == phase
    assert leg.failure.error_class in {ErrorClass.TIMEOUT, ErrorClass.TLS}


@pytest.mark.parametrize(
    ("search", "kind"),
    [
        (rude_mail.hang, ErrorClass.TIMEOUT),
        (rude_mail.flood, ErrorClass.PROTOCOL),
        (rude_mail.huge, ErrorClass.PROTOCOL),
        (rude_mail.garbage, ErrorClass.PROTOCOL),
        (rude_mail.goodbye, ErrorClass.DROPPED),
    ],
)
def test_imap_that_answers_a_search_badly_is_cut(
    search: Callable[[socket.socket, str, Event], None], kind: ErrorClass
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    leg = receive(rude_mail.imap(search=search))
    assert (leg.failure.phase, leg.failure.error_class) == (Phase.FOUND, kind)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_connection_that_breaks_while_waiting_is_made_anew() -> None:
    searches: list[str] = []

    def breaks_once(connection: socket.socket, tag: str, over: Event) -> None:
        searches.append(tag)
        if len(searches) == 1:
            rude_mail.goodbye(connection, tag, over)
        else:
            connection.sendall(f"* SEARCH\r\n{tag} OK done\r\n".encode())

    leg = receive(rude_mail.imap(search=breaks_once), timeout_s=2.5)
    assert [failure.error_class for failure in leg.course.earlier] == [ErrorClass.DROPPED]
    assert leg.failure.error_class is ErrorClass.NOT_FOUND


@pytest.mark.parametrize(
    ("login", "kind"),
    [
        ("NO [AUTHENTICATIONFAILED] no", ErrorClass.AUTH),
        ("NO [AUTHORIZATIONFAILED] not as you", ErrorClass.AUTH),
        ("NO [EXPIRED] change it", ErrorClass.AUTH),
        ("NO [ALERT] use an application password", ErrorClass.AUTH),
        ("NO [UNAVAILABLE] come again", ErrorClass.THROTTLED),
        ("NO [LIMIT] too many connections", ErrorClass.THROTTLED),
        ("NO [PRIVACYREQUIRED] TLS first", ErrorClass.TLS),
        ("BAD what", ErrorClass.AUTH),
    ],
)
def test_what_imap_says_to_a_login_is_typed(login: str, kind: ErrorClass) -> None:
    leg = receive(rude_mail.imap(login=f"{login} {SECRET}"))
    assert (leg.failure.phase, leg.failure.error_class) == (Phase.IMAP_AUTH, kind)
    assert SECRET not in repr(leg)
    assert ("RUDE_PASS" in leg.failure.text) == (kind is ErrorClass.AUTH)


@pytest.mark.parametrize("tls", [False, True])
def test_a_password_never_goes_where_tls_comes_first_or_is_missing(tls: bool) -> None:
    leg = receive(rude_mail.imap(capability="IMAP4rev1 LOGINDISABLED"), tls=tls)
    assert leg.failure.phase == (Phase.IMAP_TLS if tls else Phase.IMAP_AUTH)
    assert leg.failure.error_class is ErrorClass.TLS


@pytest.mark.parametrize(
    "idle", ["+ idling", "* 1 EXISTS\r\n+ idling\r\n* 2 EXISTS", "TAG NO not today", "TAG BAD what"]
)
def test_idle_that_is_refused_or_answered_late_is_no_failure(idle: str) -> None:
    leg = receive(rude_mail.imap(capability="IMAP4rev1 IDLE", idle=idle), timeout_s=0.6)
    assert (leg.failure.phase, leg.failure.error_class) == (Phase.FOUND, ErrorClass.NOT_FOUND)
    assert not leg.course.earlier


@in_a_loop
async def test_servers_that_hang_delay_nobody() -> None:
    """With as many threads as there are routes, those that hang leave the others alone."""
    with legs() as probe, serving(rude_mail.silent) as bad, serving(rude_mail.imap()) as good:
        token = new_token(probe.key, "route", 1)
        hung = [
            asyncio.create_task(probe.receive(imap(port_of(bad)), token, timeout_s=60.0))
            for _ in range(4)  # the tests' probe has eight threads
        ]
        fine = await asyncio.gather(
            *(probe.receive(imap(port_of(good)), token, timeout_s=0.2) for _ in range(4))
        )
        assert {leg.failure.error_class for leg in fine} == {ErrorClass.NOT_FOUND}
        assert not any(task.done() for task in hung)
        for task in hung:
            task.cancel()
        await asyncio.gather(*hung, return_exceptions=True)
