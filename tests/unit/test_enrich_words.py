"""The words of replies, and the fingerprints made of them."""

from __future__ import annotations

import pytest

from pipeline.enrich.classify import Classifier, Reply
from pipeline.enrich.words import FINGERPRINT, Words, fingerprint, word


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("User unknown", "user unknown"),
        ("550-5.1.1 No such\n550 5.1.1 user here", "no such user here"),
        ("550-Requested action\r\n550 not taken", "requested action not taken"),
        ("550 #5.1.0 Address rejected.", "address rejected ."),
        ("(450) [4.7.1]: wait", "wait"),
        ("<bob@x.example>: Recipient", "<address> recipient"),
        ("a" * 150 + "@x.example; then", "<address> . then"),
        ("a-" * 300 + "b then", "a " * 64 + "then"),
        ("to=bob%40x.example, then", "<address> then"),
        ("0123456789abcdef@x.example.", "<address> ."),
        ('<bob>: and "carol", unknown', "<name> and <name> unknown"),
        ("IP=192.0.2.1 [192.0.2.1]", "ip <ip> <ip>"),
        ("[2001:db8::1]:25 refused", "<ip> # refused"),
        ("blocked using zen.spamhaus.org; see", "blocked using /zen /spamhaus /org . see"),
        ("mx1.gmx.net (mxgmx016)", "/gmx /net <id>"),
        ("https://support.google.com/mail/?p=NoSuchUser a1b2c3", "/support /google /com /mail /nosuchuser <id>"),
        ("www.x.example/a/b?ip=192.0.2.1", "/www /example /ip"),
        ("rejected.Please read", "rejected please read"),
        ("example.org refused", "/example /org refused"),
        ("the recipient's mailbox doesn't exist", "the recipient mailbox does not exist"),
        ("cannot, can't, won\u2019t", "can not can not will not"),
        ("E-Mail over-quota user_unknown", "email over quota user unknown"),
        ("[TSS04] (S3150) k7si1234567", "tss04 s3150 <id>"),
        ("300 seconds at 12:34:56", "# seconds at <ip>"),
        ("4.16.55.1", "<ip>"),
        ("x" * 33, "<id>"),
        ("Postfach überfüllt", "postfach überfüllt"),
        ("-- ** ...", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_a_reply_is_read_as_words(text: str, words: str) -> None:
    assert Words().of(text).split() == words.split()


def test_every_word_stands_between_spaces() -> None:
    assert Words().of("a b") == " a b "
    assert word("over-quota") == "over quota "
    assert Words().of("") == " "


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (Reply(599, None, "599 We do not like you."), "599 we do not like you"),
        (Reply(None, "5.9.9", "<bob@x.example> is [192.0.2.1]"), "5.9.9 <address> is <ip>"),
        (Reply(599, "5.9.9", "at a.b.example c.example"), "599 5.9.9 at <host>"),
        (Reply(error_code="EODD_CASE"), "eodd case"),
        (Reply(text="what", error_code="EODD"), "what"),
        (Reply(), "none"),
    ],
)
def test_a_fingerprint_is_what_like_replies_share(reply: Reply, name: str) -> None:
    assert Classifier().fingerprint(reply) == name


def test_a_fingerprint_is_cut_between_words() -> None:
    assert fingerprint(599, None, " " + "word " * 40, None) == "599" + " word" * 15
    assert fingerprint(None, None, "", "e" * 32 + "_" + "f" * 32 + "_" + "g" * 32) == (
        "e" * 32 + " " + "f" * 32
    )
    assert len("599" + " word" * 15) <= FINGERPRINT
