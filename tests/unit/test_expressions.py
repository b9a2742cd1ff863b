"""Expressions over events: what they mean, and what is refused before the first event."""

from __future__ import annotations

import pytest

from consumers.expressions import FUNCTIONS, MAX_LENGTH, ExpressionError, compiled
from pipeline.core.event import MailEvent
from tests.kit.processes import ROOT

BOUNCE = MailEvent(
    event_type="bounced",
    user="Alice@example.com",
    to_domain="mail.gmail.com",
    response_code=550,
    spam_score=-1.5,
    is_dsn=True,
)


@pytest.mark.parametrize(
    "text",
    [
        "event_type == 'bounced'",
        "event_type != 'delivered' and response_code >= 550",
        "500 <= response_code < 600",
        "response_code in [550, 551]",
        "event_type in ('bounced', 'expired')",
        "event_type not in {'delivered'}",
        "'gmail' in to_domain",
        "is_dsn and not late",
        "is_dsn == True",
        "spam_score < -1",
        "attempt == None or attempt > 3",
        "attempt is None",
        "user is not None",
        "attempt > 3 or event_type == 'bounced'",
        "not (attempt > 3)",
        "attempt != 3",
        "startswith(user, 'Alice') and endswith(to_domain, '.gmail.com')",
        r"matches(to_domain, '^mail\.g')",
        "lower(user) == 'alice@example.com'",
        "lower(response_code) == 550",
        "response_code == 550.0",
    ],
)
def test_an_expression_holds(text: str) -> None:
    assert compiled(text)(BOUNCE)


@pytest.mark.parametrize(
    "text",
    [
        "attempt > 3",
        "attempt <= 3",
        "attempt in [1, 2]",
        "'x' in login",
        "startswith(login, 'x')",
        "matches(login, '.*')",
        "matches(response_code, '550')",
        "is_probe",
        "login",
        "event_type in to_domain",
        "user > response_code",
    ],
)
def test_an_expression_does_not_hold(text: str) -> None:
    assert not compiled(text)(BOUNCE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is not one expression"),
        ("user = 'x'", "equality is =="),
        ("user == 'x'; late", "it is not one expression"),
        ("user ==", "invalid syntax at character 8"),
        ("user == 'x", "unterminated string"),
        ("usr == 'x'", "usr is not a field of an event (the nearest is user; texts stand in"),
        ("event_type == xyz", "xyz is not a field of an event (texts stand in quotes)"),
        ("user.lower", "Attribute is not part of the language"),
        ("user[0]", "Subscript is not part of the language"),
        ("[u for u in user]", "ListComp is not part of the language"),
        ("attempt + 1 > 3", "BinOp is not part of the language"),
        ("9**9**9", "BinOp is not part of the language"),
        ("lambda: 1", "Lambda is not part of the language"),
        ("f'{user}'", "JoinedStr is not part of the language"),
        ("(user := 'x')", "NamedExpr is not part of the language"),
        ("__import__('os')", "the functions are startswith"),
        ("exec('x')", "the functions are"),
        ("list(user)", "the functions are"),
        ("lower(user)('x')", "the functions are"),
        ("lower", "lower is not a field"),
        ("startswith(user)", "startswith takes 2 values"),
        ("startswith(user, start='x')", "keyword is not part of the language"),
        ("matches(user, '[')", "'[' is no regular expression of RE2: missing ]"),
        ("matches(user, login)", "a regular expression in quotes"),
        (r"matches(user, '(a)\\1')", "is no regular expression of RE2: invalid escape sequence"),
        ("matches(user, 'a(?=b)')", "is no regular expression of RE2: invalid perl operator"),
        ("matches(user, '(a{1000}){1000}')", "is no regular expression of RE2: "),
        ("matches(user, '" + "(" * 1900 + "')", "is no regular expression of RE2: missing )"),
        (r"matches(user, '\ud800')", "is no regular expression of RE2: half a character"),
        ("-user == 1", "only numbers have a sign"),
        ("user in [[1]]", "lists hold texts, numbers and fields"),
        ("user in [*login]", "lists hold"),
        ("b'x' == user", "b'x' is neither a text nor a number"),
        ("response_code == '550'", "response_code is a number, and '550' is a text"),
        ("550 == user", "user is a text, and 550 is a number"),
        ("phases_ms == 1", "phases_ms is a table, and 1 is a number"),
        ("late == 1", "late is True or False, and 1 is a number"),
        ("user in ['a', 1]", "user is a text, and 1 is a number"),
        ("user in (1)", "what stands behind `in` is a list such as ['a', 'b'], or a text"),
        ("not " * 60 + "late", "it is nested too deeply"),
        ("(" * 300 + "late" + ")" * 300, ""),
        ("late or " * 400 + "late", f"it is longer than {MAX_LENGTH} characters"),
        ("user == '\0'", ""),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(text: str, why: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compiled(text)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)+$", "(a|aa)+$", "(.*)*x$", "^(([a-z])+.)+[A-Z]$"]
)
def test_no_pattern_and_no_value_take_long(pattern: str) -> None:
    matches = compiled(f"matches(user, '{pattern}')")
    assert not matches(MailEvent(user="a" * 100_000 + "!"))


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "-" * 1999 + "1",
        "not " * 499 + "late",
        "[" * 900 + "]" * 900,
        "late" + " == late" * 230,
        "1" * 1999,
        "1e" + "9" * 1900 + " == attempt",
        "user in (" + "'a'," * 400 + ")",
        "lower(" * 300 + "user" + ")" * 300,
        "user == '" + "\\N{BULLET}" * 150 + "'",
    ],
)
def test_huge_and_deep_texts_are_refused_or_answer(text: str) -> None:
    said = answered(text)
    assert said is True or said is False or len(said) < 300


def answered(text: str) -> bool | str:
    """Return what a predicate says, or why there is none."""
    try:
        return compiled(text)(BOUNCE)
    except ExpressionError as exc:
        return str(exc)


def test_a_predicate_keeps_nothing_of_the_event_before() -> None:
    matches = compiled("user == 'a'")
    answers = [matches(MailEvent(user=user)) for user in ("a", None, "b", "a")]
    assert answers == [True, False, False, True]


def test_every_function_is_documented() -> None:
    text = (ROOT / "docs" / "consumers.md").read_text()
    assert all(f"`{name}(field" in text for name in FUNCTIONS)
