"""The rule files: every rule is right about its samples, every class is reached, tables are whole."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from mailstream.simulation import replies
from pipeline.enrich import bounce_rules as table
from pipeline.enrich.bounce_rules import CLASSES, THEIR_CLASSES, UNCLASSIFIED, TextRule, text_rule
from pipeline.enrich.classify import Bounce, Reply, classify
from pipeline.enrich.phrases import Phrase
from pipeline.enrich.providers import NAMES, PROVIDERS, provider_of
from pipeline.enrich.reply import codes

RULES = [
    *((provider, rule) for provider, rules in table.BY_PROVIDER.items() for rule in rules),
    *((None, rule) for rule in (*table.STRONG_TEXTS, *table.WEAK_TEXTS)),
    *((None, rule) for rule in (*table.LOCAL_TEXTS, *table.CONNECTION_TEXTS)),
]
FOLDER = Path(table.__file__).parent / "rules"

KUMOMTA = """InvalidRecipient DNSFailure SpamBlock SpamContent ProhibitedAttachment RelayDenied
    AutoReply TransientFailure Subscribe Unsubscribe ChallengeResponse BadConfiguration
    BadConnection BadDomain ContentRelated InactiveMailbox InvalidSender MessageExpired
    NoAnswerFromHost PolicyRelated ProtocolErrors QuotaIssues RelayingIssues RoutingErrors
    SpamRelated VirusRelated AuthenticationFailed TooManyRecipients Uncategorized"""
ZONEMTA = """blacklist recipient message network protocol envelope spam auth dmarc capacity block
    other config policy virus rate greylist sender dns http plugin"""
REGISTRY = {"0": 0, "1": 10, "2": 4, "3": 6, "4": 7, "5": 6, "6": 10, "7": 30}
"""By subject: the highest detail that IANA has registered."""


def explained(text: str, provider: str | None = None, error_code: str | None = None) -> Bounce:
    code, status = codes(text)
    return classify(Reply(code, status, text, error_code, provider))


@pytest.mark.parametrize(("provider", "rule"), RULES, ids=[rule.id for _, rule in RULES])
def test_a_rule_decides_its_samples_and_no_other_does(provider: str, rule: TextRule) -> None:
    for sample in rule.samples:
        bounce = explained(sample, provider)
        assert (bounce.rule, bounce.bounce_class) == (rule.id, rule.bounce_class), sample


@pytest.mark.parametrize("key", table.STATUS)
def test_a_status_says_what_its_row_says(key: str) -> None:
    row = table.STATUS[key]
    permanent = explained(row.sample.replace("4.", "5.", 1) if row.transient else row.sample)
    if row.bounce_class == UNCLASSIFIED:
        assert permanent.rule == UNCLASSIFIED
        return
    assert (permanent.rule, permanent.bounce_class) == (f"status.{key}", row.bounce_class)
    if row.transient is not None:
        passing = classify(Reply(450, f"4.{key}", "No"))
        assert (passing.rule, passing.bounce_class) == (f"status.4.{key}", row.transient)


def test_every_registered_status_has_a_row() -> None:
    for subject, last in REGISTRY.items():
        assert subject == "0" or subject in table.STATUS
        for detail in range(last + 1):
            assert f"{subject}.{detail}" in table.STATUS


@pytest.mark.parametrize("key", table.CODE)
def test_a_reply_code_alone_says_what_its_row_says(key: str) -> None:
    row = table.CODE[key]
    bounce = explained(row.sample)
    assert (bounce.rule, bounce.bounce_class) == (f"code.{key}", row.bounce_class)


@pytest.mark.parametrize("name", table.LOCAL_ERROR)
def test_a_local_error_says_what_its_row_says(name: str) -> None:
    row = table.LOCAL_ERROR[name]
    bounce = classify(Reply(text="connect", error_code=row.sample.lower()))
    assert (bounce.rule, bounce.bounce_class) == (f"error.{name}", row.bounce_class)


def test_all_classes_of_kumomta_and_categories_of_zonemta_are_ours() -> None:
    assert set(THEIR_CLASSES["kumomta"]) == set(KUMOMTA.split())
    assert len(THEIR_CLASSES["kumomta"]) == 29
    assert set(THEIR_CLASSES["zonemta"]) == set(ZONEMTA.split())
    assert {*THEIR_CLASSES["kumomta"].values(), *THEIR_CLASSES["zonemta"].values()} <= set(CLASSES)


def test_every_class_is_the_class_of_a_rule() -> None:
    named = {rule.bounce_class for _, rule in RULES}
    for rows in (table.STATUS, table.CODE, table.LOCAL_ERROR):
        named |= {row.bounce_class for row in rows.values()}
    assert named == set(CLASSES)
    assert {one.category for one in CLASSES.values()} == set(table.Category)
    assert {one.scope for one in CLASSES.values()} == set(table.Scope)


def test_rules_are_for_known_providers_and_have_names_of_their_own() -> None:
    assert set(table.BY_PROVIDER) <= set(NAMES)
    rules = [rule for _, rule in RULES]
    table.check_ids(rules)
    with pytest.raises(ValueError, match="two rules have the id greylist"):
        table.check_ids([*rules, table.STRONG_TEXTS[0]])
    assert all(re.fullmatch(r"(?:[a-z-]+\.)?[a-z-]+", rule.id) for rule in rules)


def test_a_suffix_is_one_provider_s() -> None:
    listed = table.read("providers.toml", dict[str, list[str]])
    suffixes = [suffix for names in listed.values() for suffix in names]
    assert len(suffixes) == len(set(suffixes)) == len(PROVIDERS)


def test_no_rule_file_holds_a_recipient() -> None:
    for path in FOLDER.rglob("*.toml"):
        for local_part, domain in re.findall(r"([\w.+-]+)@([\w.-]+)", path.read_text("utf-8")):
            assert re.fullmatch(r"[0-9a-f]{16}", local_part), f"{path.name}: {local_part}@{domain}"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"class": "x"}, "x is not one of classes.toml"),
        ({"match": ["* full"]}, "must begin and end with a word"),
        ({"match": ["full ?"]}, "must begin and end with a word"),
        ({"match": ["mailbox full?"]}, "must begin and end with a word"),
        ({"match": [""]}, "must begin and end with a word"),
        ({"match": ["doesn't exist"]}, "it would be 'does not'"),
        ({"match": ["E-Mail"]}, "it would be 'email'"),
        ({"match": []}, "matches everything"),
    ],
)
def test_a_rule_that_cannot_be_right_is_refused(fields: dict[str, object], error: str) -> None:
    rule = {"id": "r", "class": "policy", "samples": ["s"], "match": ["m"], **fields}
    with pytest.raises(ValueError, match=re.escape(error)):
        text_rule(msgspec.convert(rule, table.RuleEntry))


def test_a_file_of_the_wrong_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classes\.toml: "):
        table.read("classes.toml", dict[str, int])


@pytest.mark.parametrize(
    ("phrase", "words", "found"),
    [
        ("mailbox full", " the mailbox full ", True),
        ("mailbox full", " the mailbox fuller ", False),
        ("mailbox full*", " the mailbox fuller ", True),
        ("mailbox|box is? full", " box full ", True),
        ("mailbox|box is? full", " inbox is full ", False),
        ("user * unknown", " user a b c d e f unknown ", True),
        ("user * unknown", " user a b c d e f g unknown ", False),
        ("user * unknown", " user x . we unknown ", False),
        ("/spamhaus", " see /zen /spamhaus /org ", True),
        ("listed at /*", " listed at /bl /example ", True),
        ("from <ip>", " from <ip> ", True),
    ],
)
def test_a_phrase_is_found_by_whole_words_within_a_sentence(
    phrase: str, words: str, found: bool
) -> None:
    assert Phrase(phrase).found_in(words) is found


EXPECTED = {
    "google": "rate_limited mailbox_full rate_limited invalid_recipient inactive_mailbox auth_failed "
    "rate_limited spam_content",
    "microsoft": "rate_limited rate_limited invalid_recipient invalid_recipient mailbox_full "
    "ip_blocked rate_limited",
    "yahoo": "rate_limited server_error invalid_recipient inactive_mailbox policy ip_blocked",
    "gmx": "temporary rate_limited invalid_recipient mailbox_full policy",
    "apple": "mailbox_full rate_limited invalid_recipient policy",
    "t-online": "temporary invalid_recipient ip_blocked",
    "other": "greylisted greylisted mailbox_full network network invalid_recipient routing "
    "bad_domain ip_blocked rate_limited",
}
"""Of each receiver of the simulator: the classes of what it defers, bounces and blocks with."""


def simulated(reply: replies.Reply, provider: str | None) -> str:
    text = reply.text.format(
        ip="192.0.2.1", to="0123456789abcdef@x.example", id="a1b2c3d4e5", domain="x.example",
        peer="198.51.100.1", message_id="<m@x.example>", size=1000,
    )  # fmt: skip
    return classify(Reply(reply.code, reply.status, text, reply.error, provider)).bounce_class


@pytest.mark.parametrize("receiver", replies.RECEIVERS, ids=[r.name for r in replies.RECEIVERS])
def test_the_simulator_s_replies_have_sensible_classes(receiver: replies.Receiver) -> None:
    failures = (*receiver.deferred, *receiver.bounced, *receiver.blocks)
    provider = provider_of(receiver.mx)
    assert [simulated(reply, provider) for reply in failures] == EXPECTED[receiver.name].split()


def test_what_our_own_servers_say_in_the_simulator_has_sensible_classes() -> None:
    own = (*replies.INBOUND_REJECTIONS, *replies.SUBMISSION_REJECTIONS)
    classes = "invalid_recipient ip_blocked spam_content auth_failed rate_limited message_too_large"
    assert [simulated(reply, None) for reply in own] == classes.split()
