"""Spellings: domains, addresses, codes in replies, providers, the cache, dead letters."""

from __future__ import annotations

import pytest

from pipeline.core.batch import TopicPartition
from pipeline.core.topics import MAX_MESSAGE_BYTES
from pipeline.enrich.addresses import domain, ip, mail_address
from pipeline.enrich.dead import MAX_ERROR, dead_letter, redact
from pipeline.enrich.memo import ENTRY_COST, Memo
from pipeline.enrich.providers import NAMES, OTHER, PROVIDERS, provider_of
from pipeline.enrich.reply import Codes, codes, codes_at_start, status_of
from pipeline.enrich.transform import look
from tests.kit.enrich import Raw


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.ORG.", "example.org"),
        (" example.org ", "example.org"),
        ("BÜCHER.example", "bücher.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("", None),
        (".", None),
        (None, None),
        ("_OTHER", None),
        ("_unknown.", None),
    ],
)
def test_a_domain_has_one_spelling(text: str | None, name: str | None) -> None:
    assert domain(text) == name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("<A@X.org>", "A@x.org"),
        ("a@b@X.org.", "a@b@x.org"),
        ("a", "a"),
        ("<>", ""),
        ("", ""),
        ("a@", None),
        ("@x.org", None),
        (None, None),
    ],
)
def test_an_address_has_one_spelling(text: str | None, address: str | None) -> None:
    assert mail_address(text) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:C000:0201", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("0.0.0.0", None),
        ("::", None),
        ("::ffff:0.0.0.0", None),
        ("0123456789abcdef", "0123456789abcdef"),
        ("", None),
        (None, None),
    ],
)
def test_an_ip_address_has_one_spelling(text: str | None, address: str | None) -> None:
    assert ip(text) == address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("250 2.0.0 OK queued", (250, "2.0.0")),
        ("250 OK", (250, None)),
        ("250", (250, None)),
        ("2.0.0 OK accepted", (None, "2.0.0")),
        ("550-5.7.26 This mail\n550 5.7.26 more", (550, "5.7.26")),
        ("550 #5.1.0 Address rejected.", (550, "5.1.0")),
        ("host mx.x.org said: 550 5.1.1 unknown", (550, "5.1.1")),
        ("SMTP error from remote mail server after RCPT TO:<u@x>: 550 no", (550, None)),
        ("SMTP error after RCPT TO:<u@x>: 552-5.2.2 full", (552, "5.2.2")),
        ("550 Rejected: 5.1.1 unknown", (550, "5.1.1")),
        ("connect to 5.1.1.9 failed", (None, None)),
        ("421 [TSS04] deferred - 4.16.55.1; see", (421, None)),
        ("took 300 seconds", (None, None)),
        ("354 go", (None, None)),
        ("x" * 250 + ": 550 5.1.1 unknown", (None, None)),
        ("connect to mx.x.org port: 587 failed", (None, None)),
        ("", (None, None)),
    ],
)
def test_codes_are_found_in_the_first_250_characters(
    text: str, found: tuple[int | None, str | None]
) -> None:
    assert codes(text) == Codes(*found)


def test_codes_at_the_start_need_no_more_than_the_start() -> None:
    assert codes_at_start("550-5.7.133 ab") == (550, "5.7.133")
    assert codes_at_start("said: 550 5.1.") == (None, None)


@pytest.mark.parametrize(
    ("text", "status"), [(" 5.1.1 ", "5.1.1"), ("5.1", None), ("5.1.1.1", None), (None, None)]
)
def test_a_posted_status_is_one_or_absent(text: str | None, status: str | None) -> None:
    assert status_of(text) == status


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("gmail.com", "google"),
        ("gmail-smtp-in.l.google.com", "google"),
        ("notgoogle.com", "other"),
        ("google.com.evil.example", "other"),
        ("x.olc.protection.outlook.com", "microsoft"),
        ("x.mail.protection.outlook.com", "microsoft"),
        ("x.j-v1.mx.microsoft", "microsoft"),
        ("hotmail.co.uk", "microsoft"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("yahoo.co.jp", "yahoo"),
        ("aol.com", "yahoo"),
        ("me.com", "apple"),
        ("mx01.emig.gmx.net", "gmx"),
        ("web.de", "gmx"),
        ("route1.mx.cloudflare.net", "cloudflare"),
        ("other.cloudflare.net", "other"),
        ("smtp-in.orange.fr", "orange"),
        ("mx1.free.fr", "free"),
        ("mx2h1.comcast.net", "comcast"),
        ("al-ip4-mx-vip1.prodigy.net", "att"),
        ("pkvw-mx.msg.pkvw.co.charter.net", "charter"),
        ("cxr.mx.a.cloudfilter.cox.net", "cox"),
        ("eu-smtp-inbound-1.mimecast.com", "mimecast"),
        ("mx0a-00000000.pphosted.com", "proofpoint"),
        ("mx1-us1.ppe-hosted.com", "proofpoint"),
        ("d1.ess.barracudanetworks.com", "barracuda"),
        ("mx1.example.iphmx.com", "cisco"),
        ("example.in.tmes.trendmicro.eu", "trendmicro"),
        ("mx-01-eu-west-1.prod.hydra.sophos.com", "sophos"),
        ("mx01.antispameurope.com", "hornetsecurity"),
        ("cluster1.eu.messagelabs.com", "messagelabs"),
        ("mx.antispamcloud.com", "n-able"),
        ("inbound-smtp.eu-west-1.amazonaws.com", "amazon"),
        ("ec2-192-0-2-1.eu-west-1.compute.amazonaws.com", "other"),
        ("mx1.mail.ovh.net", "ovh"),
        ("spool.mail.gandi.net", "gandi"),
        ("mx1.seznam.cz", "seznam"),
        ("smtp-in.libero.it", "libero"),
        ("mx.wp.pl", "wp"),
        ("mx.poczta.onet.pl", "onet"),
        ("mx00.kundenserver.de", "gmx"),
        ("mx00.t-online.de", "t-online"),
        ("mxs.mail.ru", "mailru"),
        ("mx.yandex.ru", "yandex"),
        ("mx1.qq.com", "qq"),
        ("163mx01.mxmail.netease.com", "netease"),
        ("mx1.naver.com", "naver"),
        ("mx.zoho.eu", "zoho"),
        ("mail.protonmail.ch", "proton"),
        ("in1-smtp.messagingengine.com", "fastmail"),
        ("mx01.mail.icloud.com", "apple"),
        ("com", "other"),
        ("", "other"),
    ],
)
def test_a_provider_is_known_by_whole_labels(name: str, provider: str) -> None:
    assert provider_of(name) == provider


def test_every_suffix_is_in_its_normal_spelling_and_names_a_provider() -> None:
    for suffix, provider in PROVIDERS.items():
        assert domain(suffix) == suffix
        assert provider_of(f"a.{suffix}") == provider
        assert provider in NAMES
    assert OTHER in NAMES


def test_the_cache_makes_each_value_once_and_stays_small() -> None:
    made = []

    def make(key: str) -> int:
        made.append(key)
        return len(key)

    memo = Memo(make, budget=10 * ENTRY_COST)
    assert [memo["a"], memo["bb"], memo["a"]] == [1, 2, 1]
    assert made == ["a", "bb"]
    for number in range(1000):
        assert memo[f"{number:04d}"] == 4
        assert len(memo) <= 10
    assert memo["x" * 10_000] == 10_000
    assert len(memo) == 1


def test_the_cache_weighs_every_kind_of_key() -> None:
    texts: Memo[tuple[str | None, ...], int] = Memo(len, budget=3 * ENTRY_COST)
    numbers: Memo[int, int] = Memo(lambda number: number + 1, budget=3 * ENTRY_COST)
    for number in range(10):
        assert texts[str(number), None, "x" * 60] == 3
        assert numbers[number] == number + 1
    assert len(texts) <= 2
    assert len(numbers) <= 3


def test_the_cache_passes_errors_on() -> None:
    memo: Memo[str, int] = Memo(int)
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            memo["x"]


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (b'{"to":"bob@x.org"}', b'{"to":"***@x.org"}'),
        (b"Al <al.b+c@y.org>, d@z", b"Al <***@y.org>, ***@z"),
        (rb'{"to":"\"john doe\"@x.org"}', rb'{"to":"***@x.org"}'),
        (b"a%40b.c x&#64;y x&#X40;y", b"***%40b.c ***&#64;y ***&#X40;y"),
        (rb'{"to":"bob\u0040x.org"}', rb'{"to":"***\u0040x.org"}'),
        ("bärbel\uff20x.org".encode(), "***\uff20x.org".encode()),
        (b"&#x41; 50% \\n \xef\xbb\xbf", b"&#x41; 50% \\n \xef\xbb\xbf"),
        (b"no address", b"no address"),
        (b"", b""),
        (b"\xff\xfe@x", b"***@x"),
        (b"a" * 300 + b'"@x', b"a" * 45 + b"***@x"),
    ],
)
def test_local_parts_are_redacted(text: bytes, redacted: bytes) -> None:
    assert redact(text) == redacted


def test_a_dead_letter_tells_where_it_came_from_and_no_address() -> None:
    record = Raw(7, b'{"from":"a@x.org"', (), b"key")
    letter = dead_letter(TopicPartition("mail.raw.zonemta", 3), record, "zonemta", "bad: a@x.org")
    assert letter.key == b"key"
    assert letter.value == b'{"from":"***@x.org"'
    assert dict(letter.headers) == {
        "error": b"bad: ***@x.org",
        "source": b"zonemta",
        "topic": b"mail.raw.zonemta",
        "partition": b"3",
        "offset": b"7",
    }


def test_a_dead_letter_of_no_value_is_empty_and_its_error_short() -> None:
    record = Raw(7, None, (), None)
    letter = dead_letter(TopicPartition("t", 0), record, "s", "x" * 10_000 + "\ud800")
    assert letter.value == b""
    assert letter.key is None
    assert len(dict(letter.headers)["error"]) == MAX_ERROR


@pytest.mark.parametrize("value", [b"@" * (3 << 20), b"a@" * (4 << 20), b"x" * (9 << 20)])
def test_a_dead_letter_is_cut_to_what_a_topic_takes(value: bytes) -> None:
    letter = dead_letter(TopicPartition("t", 0), Raw(0, value, (), None), "s", "x")
    assert 0 < len(letter.value) < MAX_MESSAGE_BYTES - 4096


def test_a_look_at_many_values_finds_the_odd_ones_only() -> None:
    plain = b'{"a":"b_c","n":1,"d":"x"}'
    odd = [b'{"a":""}', b'{"a":"_b"}', b'{"a":"\\n"}', b'{"":1}']
    values = [odd[place % 4] if place % 97 == 3 else plain for place in range(1_700)]
    values[1_200] = b'{"a":"' + b"x" * 600_000 + b'"}'
    assert look(values) == [value in odd for value in values]
    assert look([]) == []
    assert look([b"", b'{"a":""}', b""]) == [False, True, False]
