"""Bounce classes: what real replies are classified as, and what follows from a class."""

from __future__ import annotations

import pytest

from pipeline.enrich.classify import Classifier, Reply, classify
from pipeline.enrich.reply import codes

REPLIES = [
    # block lists, greylists, limits, quotas: the words beat the codes
    ("greylisted", "451 4.7.1 Greylisted, please try again in 300 seconds"),
    ("greylisted", "450 4.2.0 <x>: Recipient address rejected: Gray-listed"),
    ("virus", "550 5.7.1 This message contains a virus (Eicar)"),
    ("virus", "552 5.7.0 Malware detected"),
    ("virus", "554 infected attachment"),
    ("auth_failed", "550 5.7.1 Email rejected per DMARC policy of x.org"),
    ("auth_failed", "550 SPF check failed"),
    ("auth_failed", "550 message did not pass SPF"),
    ("auth_failed", "550 DKIM signature invalid"),
    (
        "auth_failed",
        (
            "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n"
            "550 5.7.26 see x"
        ),
    ),
    (
        "rate_limited",
        (
            "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\n"
            "421 4.7.28 from your IP address"
        ),
    ),
    ("rate_limited", "421 4.7.0 Too many messages from 192.0.2.1, try again later."),
    ("rate_limited", "421 too many concurrent connections"),
    ("rate_limited", "450 4.2.1 The user is receiving mail too quickly"),
    (
        "rate_limited",
        "450 4.2.1 The user you are trying to contact is receiving mail at a rate that",
    ),
    ("rate_limited", "550 5.7.1 Sending limit reached, try again later"),
    ("rate_limited", "451 4.7.652 exceeded the maximum number of connections. (S3115)"),
    ("rate_limited", "451 throttled"),
    ("rate_limited", "451 4.7.1 slow down"),
    ("rate_limited", "421 4.7.0 [TSS04] temporarily deferred due to unexpected volume"),
    ("rate_limited", "421 4.7.0 Try again later, rate limited"),
    ("too_many_recipients", "452 4.5.3 Too many recipients"),
    ("mailbox_full", "452 4.2.2 The email account that you tried to reach is over quota"),
    ("mailbox_full", "552 Quota exceeded. The recipient's mailbox is full."),
    ("mailbox_full", "552 Requested mail action aborted: exceeded storage allocation"),
    ("mailbox_full", "554 5.2.2 mailbox full; STOREDRV"),
    ("mailbox_full", "452-4.2.2 The recipient's inbox is out of storage space."),
    ("mailbox_full", "452 Insufficient storage"),
    (
        "ip_blocked",
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using x.example",
    ),
    ("ip_blocked", "550 5.7.1 part of their network is on our block list (S3150)."),
    ("ip_blocked", "550 you are on our black list"),
    ("ip_blocked", "553 5.7.1 [BL21] because the ip is in Spamhaus's list"),
    ("ip_blocked", "554 see spamcop"),
    ("ip_blocked", "554 http://www.barracudacentral.org/reputation"),
    ("ip_blocked", "554 RBL hit"),
    ("ip_blocked", "554 poor reputation"),
    ("ip_blocked", "550 5.7.606 Access denied, banned sending IP [192.0.2.1]"),
    ("ip_blocked", "554 your address is listed at x.example"),
    ("ip_blocked", "554 IP=192.0.2.1 - A problem occurred. (BL)"),
    ("ip_blocked", "553 5.7.1 Sender address rejected: blocked using blocklist"),
    ("message_too_large", "552 5.3.4 Message size exceeds the limit"),
    ("message_too_large", "550 the mail is too big"),
    ("message_too_large", "552 exceeds our maximum message size"),
    ("spam_content", "554 5.7.1 Message rejected as spam by policy"),
    (
        "spam_content",
        "550-5.7.1 Our system has detected that this message is\n550 likely unsolicited mail",
    ),
    ("spam_content", "550 junk mail"),
    ("spam_content", "550 no bulk mail here"),
    ("relay_denied", "554 5.7.1 <x>: Relay access denied"),
    ("relay_denied", "550 relaying not permitted"),
    ("routing", "554 5.4.14 Hop count exceeded - possible mail loop"),
    ("routing", "554 too many hops"),
    ("routing", "550 mail for x loops back to myself"),
    ("routing", "550 Unrouteable address"),
    ("invalid_sender", "553 5.7.1 Sender address rejected: not owned by user"),
    ("invalid_sender", "501 invalid sender"),
    ("invalid_sender", "550 sender domain does not exist"),
    ("invalid_sender", "451 Domain of sender x does not resolve"),
    ("inactive_mailbox", "554 30 This mailbox is disabled (554.30)."),
    ("inactive_mailbox", "550 the account has been suspended"),
    ("inactive_mailbox", "550 recipient no longer available"),
    ("invalid_recipient", "550 5.1.1 The email account that you tried to reach does not exist"),
    ("invalid_recipient", "550 5.1.1 <x>: User unknown in virtual mailbox table"),
    ("invalid_recipient", "550 No such user here"),
    ("invalid_recipient", "550 unknown local user"),
    ("invalid_recipient", "554 delivery error: dd Not a valid recipient"),
    ("invalid_recipient", "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)"),
    ("invalid_recipient", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found"),
    (
        "invalid_recipient",
        "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
    ),
    ("invalid_recipient", "550-Requested action not taken: mailbox unavailable\n550 see x"),
    ("temporary", "450 Requested mail action not taken: mailbox unavailable"),
    ("tls", "530 5.7.0 Must issue a STARTTLS command first"),
    ("tls", "550 TLS is required"),
    ("tls", "550 we do not take mail without encryption"),
    # the enhanced status
    ("invalid_recipient", "550 5.1.1 no"),
    ("invalid_recipient", "550 5.1.0 no"),
    ("temporary", "450 4.1.0 no"),
    ("invalid_recipient", "550 5.1.3 no"),
    ("invalid_recipient", "550 5.1.4 no"),
    ("inactive_mailbox", "550 5.1.6 no"),
    ("bad_domain", "550 5.1.2 no"),
    ("dns", "450 4.1.2 no"),
    ("invalid_sender", "550 5.1.7 no"),
    ("invalid_sender", "550 5.1.8 no"),
    ("dns", "450 4.1.8 no"),
    ("protocol", "550 5.1.9 no"),
    ("bad_domain", "556 5.1.10 no"),
    ("inactive_mailbox", "550 5.2.0 no"),
    ("temporary", "450 4.2.0 no"),
    ("inactive_mailbox", "550 5.2.1 no"),
    ("temporary", "450 4.2.1 no"),
    ("mailbox_full", "550 5.2.2 no"),
    ("message_too_large", "550 5.2.3 no"),
    ("invalid_recipient", "550 5.2.4 no"),
    ("temporary", "550 5.2.99 no"),
    ("server_error", "451 4.3.0 Local problem"),
    ("server_error", "451 4.3.1 no"),
    ("server_error", "451 4.3.2 no"),
    ("protocol", "550 5.3.3 no"),
    ("message_too_large", "552 5.3.4 no"),
    ("configuration", "550 5.3.5 no"),
    ("protocol", "550 5.3.6 no"),
    ("server_error", "550 5.3.99 no"),
    ("network", "450 4.4.0 no"),
    ("network", "450 4.4.1 no"),
    ("network", "450 4.4.2 no"),
    ("dns", "450 4.4.3 no"),
    ("routing", "550 5.4.4 no"),
    ("server_error", "450 4.4.5 no"),
    ("routing", "550 5.4.6 no"),
    ("expired", "450 4.4.7 no"),
    ("network", "450 4.4.99 no"),
    ("protocol", "550 5.5.2 no"),
    ("too_many_recipients", "452 4.5.3 no"),
    ("content", "550 5.6.0 no"),
    ("policy", "550 5.7.0 no"),
    ("policy", "550 5.7.1 no"),
    ("restricted_recipient", "550 5.7.2 no"),
    ("content", "550 5.7.7 no"),
    ("inactive_mailbox", "550 5.7.13 no"),
    ("message_too_large", "550 5.7.16 no"),
    ("invalid_recipient", "550 5.7.17 no"),
    ("bad_domain", "550 5.7.18 no"),
    ("temporary", "450 4.7.19 no"),
    *[("auth_failed", f"550 5.7.{detail} no") for detail in (20, 21, 22, 23, 24, 26, 29)],
    ("reverse_dns", "550 5.7.25 no"),
    ("invalid_sender", "550 5.7.27 no"),
    ("rate_limited", "450 4.7.28 no"),
    ("tls", "550 5.7.30 no"),
    # words that beat a code alone, or a status that says nothing
    ("bad_domain", "550 domain not found"),
    ("bad_domain", "550 nullMX"),
    ("policy", "554-Transaction failed\n554-Reject due to policy restrictions."),
    ("policy", "550 5.0.0 Access denied"),
    ("policy", "550 prohibited"),
    ("policy", "550 administrative"),
    ("server_error", "451 Resources temporarily unavailable. Please try again later [#4.16.5]."),
    ("temporary", "451 4.7.0 Temporary rejection, try again later."),
    ("temporary", "451 4.5.0 Server busy"),
    ("temporary", "421-gmx.net Nemesis ESMTP Service not available"),
    ("invalid_recipient", "550 5.0.0 no"),
    # the code alone
    ("temporary", "421 no"),
    ("temporary", "450 no"),
    ("unclassified", "599 no"),
]


@pytest.mark.parametrize(("name", "text"), REPLIES)
def test_a_reply_has_its_class(name: str, text: str) -> None:
    code, status = codes(text)
    assert classify(Reply(code, status, text)).bounce_class == name


@pytest.mark.parametrize(
    ("name", "error_code", "text"),
    [
        ("network", "econnrefused", "connect ECONNREFUSED 192.0.2.1:25"),
        ("expired", None, "retry timeout exceeded"),
        ("expired", None, "message is too old"),
        ("expired", None, "queue lifetime is over"),
        ("bad_domain", None, "queryMx ENOTFOUND x.example"),
        ("dns", "EOTHER", "DNS lookup failed"),
        ("bad_domain", None, "no such domain"),
        ("bad_domain", None, "no MX found"),
        ("bad_domain", None, "NXDOMAIN"),
        ("tls", None, "ssl handshake failure"),
        ("tls", None, "certificate has expired"),
        ("network", None, "connect ECONNREFUSED 192.0.2.1:25"),
        ("network", None, "timed out"),
        ("network", None, "Connection refused"),
        ("network", None, "reset by peer"),
        ("network", None, "network is unreachable"),
        ("network", None, "Greeting never received"),
        ("invalid_recipient", None, "User unknown"),
        ("policy", None, "rejected by local policy"),
        ("unclassified", None, "what"),
        ("unclassified", None, None),
        ("unclassified", "EENVELOPE", ""),
    ],
)
def test_a_local_error_has_its_class(name: str, error_code: str | None, text: str | None) -> None:
    assert classify(Reply(text=text, error_code=error_code)).bounce_class == name


def test_a_status_alone_is_enough() -> None:
    assert classify(Reply(status="5.1.1")).bounce_class == "invalid_recipient"
    assert classify(Reply(status="5.0.0")).bounce_class == "unclassified"
    assert classify(Reply(status="5.9.9")).bounce_class == "unclassified"


def test_what_follows_from_the_class_is_told_beside_it() -> None:
    assert classify(Reply(550, "5.1.1", "no")) == (
        *("invalid_recipient", "hard", True, "recipient", "status.1.1"),
    )
    assert classify(Reply(421, None, "greylisted")) == (
        *("greylisted", "soft", False, "policy", "greylist"),
    )


@pytest.mark.parametrize(
    ("reply", "hard"),
    [
        (Reply(550, "5.1.1", "user unknown"), True),
        (Reply(450, "4.1.1", "user unknown"), False),
        (Reply(error_code="ENOTFOUND"), True),
        (Reply(554, None, "blocked using x.example.org"), True),
        (Reply(451, None, "blocked using x.example.org"), False),
        (Reply(text="blocked using x.example.org"), False),
        (Reply(552, "5.2.2", "mailbox full"), False),
        (Reply(error_code="ETIMEDOUT"), False),
    ],
)
def test_hard_is_what_would_fail_again(reply: Reply, hard: bool) -> None:
    assert classify(reply).hard is hard


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        (Reply(550, "5.0.0", "weird", "spam"), "hint.spam"),
        (Reply(550, "5.7.1", "weird", "SPAM"), "hint.spam"),
        (Reply(550, None, "weird", "spam"), "hint.spam"),
        (Reply(550, None, None, "spam"), "hint.spam"),
        (Reply(550, "5.1.1", "weird", "spam"), "status.1.1"),
        (Reply(550, None, "mailbox full", "spam"), "mailbox-full"),
        (Reply(550, "5.7.1", "access denied", "spam"), "policy"),
        (Reply(550, "5.0.0", "weird", "other"), "code.550"),
        (Reply(text="weird", error_code="blacklist"), "hint.blacklist"),
    ],
)
def test_what_the_mta_made_of_it_counts_where_the_reply_says_nothing(
    reply: Reply, rule: str
) -> None:
    assert classify(reply).rule == rule


def test_what_a_provider_says_is_known_of_that_provider_only() -> None:
    text = "554 Refused, CXBL"
    assert classify(Reply(554, None, text, None, "cox")).rule == "cox.blocked"
    assert classify(Reply(554, None, text, None, "google")).rule == "code.554"
    assert classify(Reply(550, "5.7.649", "No", None, "microsoft")).rule == "microsoft.banned-ip"
    assert classify(Reply(550, "5.7.650", "No", None, "microsoft")).rule == "status.7"


def test_one_code_is_not_one_class() -> None:
    texts = {
        "550 5.7.1 Message rejected as spam": "spam_content",
        "550 5.7.1 Unable to relay": "relay_denied",
        "550 5.7.1 Listed at bl.example.org": "ip_blocked",
        "550 5.7.1 You are not allowed to post to this list": "restricted_recipient",
        "550 5.7.1 No PTR record": "reverse_dns",
        "550 5.7.1 No": "policy",
    }
    for text, name in texts.items():
        assert classify(Reply(550, "5.7.1", text)).bounce_class == name
    security = {classify(Reply(550, f"5.7.{n}", "No")).bounce_class for n in range(31)}
    assert len(security) > 10
    assert classify(Reply(550, "5.7.28", "No")).bounce_class == "rate_limited"
    assert classify(Reply(550, "5.7.38", "No")).bounce_class == "policy"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("inactive_mailbox", "554 30 Sorry. This mailbox is disabled (554.30)."),
        ("mailbox_full", "554 Quota exceeded (mailbox for user is full)"),
        ("ip_blocked", "550 Your IP (192.0.2.1) has been blocked"),
        ("invalid_recipient", "550 (no such user)"),
    ],
)
def test_brackets_in_a_reply_are_no_obstacle(name: str, text: str) -> None:
    code, status = codes(text)
    assert classify(Reply(code, status, text)).bounce_class == name


def test_a_cache_does_not_show() -> None:
    classifier = Classifier()
    for _ in range(2):
        for name, text in REPLIES:
            code, status = codes(text)
            assert classifier.classify(Reply(code, status, text)).bounce_class == name


def test_a_long_hostile_reply_is_read_in_linear_time() -> None:
    for text in ("sender " * 85, "spf " * 150, "not " * 150, "user mailbox " * 46, "\n5" * 300):
        classify(Reply(550, None, text))
