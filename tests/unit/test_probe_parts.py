"""Folders, names, certificates and typed refusals of the probe's legs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from pipeline.kit.clock import SystemClock
from producers.sources.probe.accounts import Account, ImapAccount, SmtpAccount
from producers.sources.probe.attempt import ErrorClass, Phase
from producers.sources.probe.folders import Listed, places
from producers.sources.probe.mail_header import read_header
from producers.sources.probe.names import NameFailure, Names
from producers.sources.probe.smtp_failures import enhanced_status, refused
from producers.sources.probe.tls import client_context, days_left
from producers.sources.probe.token import new_token
from tests.kit.certificates import Authority
from tests.kit.mail_sink import HOST, dns_stub

DAY_MS = 86_400_000
DOVECOT: list[Listed] = [
    ((b"\\HasNoChildren",), b".", "INBOX"),
    ((b"\\HasNoChildren", b"\\Junk"), b".", "Werbung"),
    ((b"\\HasNoChildren",), b".", "INBOX.Spam"),
    ((b"\\Noselect",), b".", "Junk"),
]


def test_flags_come_before_names() -> None:
    assert places(DOVECOT, "INBOX").junk == ("Werbung",)


@pytest.mark.parametrize(
    ("delimiter", "name"),
    [
        (b".", "INBOX.Spam"),
        (b"/", "Junk E-mail"),
        (b"/", "[Gmail]/迷惑メール"),
        (None, "Bulk Mail"),
    ],
)
def test_without_flags_names_tell(delimiter: bytes | None, name: str) -> None:
    listed: list[Listed] = [((), delimiter, "INBOX"), ((), delimiter, name)]
    assert places(listed, "INBOX").junk == (name,)


def test_a_folder_is_looked_into_once() -> None:
    found = places(DOVECOT, "INBOX", ["inbox", "Werbung", "Other", "Other", "Spam"])
    assert found.in_order() == ["INBOX", "Werbung", "Spam", "Other"]
    assert found.junk == ("Werbung", "Spam")


def test_todos_is_all_mail_at_gmail_only() -> None:
    assert places([((), b"/", "Todos")], "INBOX").everything is None
    assert places([((), b"/", "[Gmail]/Todos")], "INBOX").everything == "[Gmail]/Todos"


def test_nothing_listed_leaves_what_is_configured() -> None:
    assert places([], "INBOX", ["A"]).in_order() == ["INBOX", "A"]


def test_names_are_asked_for_within_a_bound(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        names = Names(nameservers=[("127.0.0.1", port)], timeout_s=0.3)
        assert await names.addresses("192.0.2.7") == ["192.0.2.7"]
        assert "127.0.0.1" in await names.addresses("localhost")
        assert await names.addresses("mail.example.org") == ["127.0.0.1"]
        found = await names.mail_servers("example.org")
        assert (found.hosts, found.error) == ((f"{HOST}.example.org",), None)
        assert found.lookup_ms > 0
        with pytest.raises(NameFailure, match=r"no host or domain unknown\.example"):
            await names.addresses("unknown.example")
        lost = await names.mail_servers("unknown.example")
        assert lost.hosts == ()
        assert lost.error is not None
        silent = Names(nameservers=[("127.0.0.9", 9)], timeout_s=0.3)
        with pytest.raises(NameFailure):
            await silent.addresses("mail.example.org")
        with pytest.raises(NameFailure):
            await names.addresses("not..a name")

    with dns_stub() as port:
        asyncio.run(scenario(port))


@pytest.mark.parametrize("days", [1, 90, 10_000, -1])
def test_the_days_of_any_certificate_are_read(tmp_path: Path, days: int) -> None:
    pair = Authority(tmp_path).issue("server", days=days)
    der = ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
    now_ms = SystemClock().now_ms()
    left = days_left(der, now_ms)
    assert left is not None
    assert days - 0.01 < left < days + 0.01
    assert days_left(der[:60], now_ms) is None
    assert days_left(None, now_ms) is None


def test_a_context_is_made_once_for_the_files_as_they_are(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = client_context(ca_file=authority.cert)
    assert client_context(ca_file=authority.cert) is context
    Authority(tmp_path)
    assert client_context(ca_file=authority.cert) is not context
    with pytest.raises(OSError, match="none"):
        client_context(ca_file=tmp_path / "none")


@pytest.mark.parametrize(
    ("phase", "code", "reply", "kind", "again"),
    [
        (Phase.RCPT, 450, "4.2.0 greylisted", ErrorClass.THROTTLED, True),
        (Phase.RCPT, 452, "4.2.2 full", ErrorClass.QUOTA, True),
        (Phase.DATA, 552, "full", ErrorClass.QUOTA, False),
        (Phase.DATA, 554, "5.7.1 spam", ErrorClass.REJECTED, False),
        (Phase.AUTH, 535, "5.7.8 no", ErrorClass.AUTH, False),
        (Phase.AUTH, 454, "4.7.0 later", ErrorClass.AUTH, True),
        (Phase.MAIL, 530, "5.7.0 log in", ErrorClass.AUTH, False),
        (Phase.TLS, 421, "4.7.1 No client certificate", ErrorClass.TLS, True),
        (Phase.CONNECT, -1, "nonsense", ErrorClass.PROTOCOL, False),
    ],
)
def test_replies_are_typed(
    phase: Phase, code: int, reply: str, kind: ErrorClass, again: bool
) -> None:
    account = Account("a", "a@example.test", SmtpAccount("mail", password="secret"))
    failed = refused(phase, code, f"{reply} secret\r\nand more\x00", account)
    assert (failed.failure.error_class, failed.again) == (kind, again)
    assert "secret" not in failed.failure.text
    assert failed.failure.text.isprintable()
    assert enhanced_status("2.0.0 Ok") == "2.0.0"
    assert enhanced_status("Ok 2.0.0") is None


def test_passwords_do_not_print() -> None:
    smtp = SmtpAccount("mail", password="the-secret")
    imap = ImapAccount("mail", password="the-secret")
    assert "the-secret" not in repr(Account("a", "a@example.test", smtp, imap))
    assert SmtpAccount("mail", 465, starttls=False).implicit_tls
    assert not SmtpAccount("mail", 465).implicit_tls


def test_hops_are_read_oldest_first_and_bad_ones_are_left_out() -> None:
    token = new_token(b"key", "route", 1)
    lines = [
        "Received: from b by c; Thu, 1 Jan 1970 00:00:02 +0000",
        "Received: from nowhere; whenever",
        "Received: from a\r\n\tby b; Thu, 1 Jan 1970 01:00:01 +0100 (CET)",
        f"Subject: {token}",
    ]
    header = read_header("\r\n".join([*lines, "", ""]).encode(), b"key")
    assert header is not None
    assert header.hops_ms == (1000, 2000)
