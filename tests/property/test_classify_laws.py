"""Laws of the classifier: any text has a class, and what differs from mail to mail never shows."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from pipeline.enrich.bounce_rules import BY_PROVIDER, CLASSES, STRONG_TEXTS, WEAK_TEXTS
from pipeline.enrich.classify import Classifier, Reply, classify
from pipeline.enrich.reply import codes
from pipeline.enrich.words import FINGERPRINT

PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["550", "5.1.1", "550-5.7.1", "mailbox", "full", "not", "spam", ".", "\n"]),
    st.emails(),
    st.from_regex(r"<[a-z.]{1,10}>:?", fullmatch=True),
)
TEXTS = st.lists(PIECES, max_size=30).map(" ".join)
REPLIES = st.builds(
    Reply,
    st.none() | st.integers(200, 599),
    st.none() | st.from_regex(r"[245]\.\d{1,3}\.\d{1,3}", fullmatch=True).filter(str.isascii),
    st.none() | TEXTS,
    st.none() | st.sampled_from(["ETIMEDOUT", "spam", "other", "x"]) | st.text(max_size=20),
    st.none() | st.sampled_from(sorted(BY_PROVIDER)),
)
CLASSIFIER = Classifier()
SAMPLES = [
    (provider, sample)
    for provider, rules in [*BY_PROVIDER.items(), (None, (*STRONG_TEXTS, *WEAK_TEXTS))]
    for rule in rules
    for sample in rule.samples
]


@given(REPLIES)
def test_any_reply_has_a_class_whatever_was_asked_before(reply: Reply) -> None:
    bounce = CLASSIFIER.classify(reply)
    assert bounce == classify(reply)
    known = CLASSES[bounce.bounce_class]
    assert (bounce.category, bounce.scope) == (known.category.value, known.scope.value)


@given(REPLIES)
def test_a_fingerprint_is_short_and_tells_no_address(reply: Reply) -> None:
    name = CLASSIFIER.fingerprint(reply)
    assert len(name) <= FINGERPRINT
    assert "@" not in name
    assert not re.search(r"\d[.:]\d+[.:]\d+[.:]\d", name)
    assert not re.search(r"[\x00-\x1f\x7f]", name)


@given(st.text(max_size=300))
def test_codes_can_be_looked_for_in_any_text(text: str) -> None:
    code, status = codes(text)
    assert code is None or 200 <= code <= 599
    assert status is None or re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", status)


@given(
    st.sampled_from(SAMPLES),
    st.integers(0, 2**64 - 1),
    st.integers(1 << 24, (224 << 24) - 1),
)
def test_other_recipients_and_addresses_give_the_same_class_and_fingerprint(
    sample: tuple[str | None, str], token: int, address: int
) -> None:
    provider, text = sample
    code, status = codes(text)
    other = text.replace("0123456789abcdef", f"{token:016x}")
    other = other.replace("192.0.2.1", str(IPv4Address(address)))
    first, second = (Reply(code, status, one, None, provider) for one in (text, other))
    assert CLASSIFIER.classify(first) == CLASSIFIER.classify(second)
    assert CLASSIFIER.fingerprint(first) == CLASSIFIER.fingerprint(second)
