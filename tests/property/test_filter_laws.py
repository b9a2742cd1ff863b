"""Laws of filters, against a reading of its own of the JSON that is on ``mail.events``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.expressions import ExpressionError, compiled
from consumers.filters import having
from pipeline.core.event import MailEvent

TEXTS = ("user", "login", "event_type", "to_domain")
NUMBERS = ("response_code", "attempt", "spam_score")
FLAGS = ("is_dsn", "late")
WORDS = st.sampled_from(["", "a", "b", "ab", "A", "bounced", "'", '"', "\\", "é", "\n"])
COUNTS = st.integers(-3, 3)

events = st.builds(
    MailEvent,
    **dict.fromkeys(TEXTS, st.none() | WORDS),
    response_code=st.none() | COUNTS,
    attempt=st.none() | COUNTS,
    spam_score=st.none() | st.floats(-3, 3),
    is_dsn=st.booleans(),
    late=st.booleans(),
)

compare = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
atoms = st.one_of(
    st.tuples(compare, st.sampled_from(TEXTS), WORDS),
    st.tuples(compare, st.sampled_from(NUMBERS), COUNTS),
    st.tuples(st.sampled_from(["==", "!="]), st.sampled_from(TEXTS + NUMBERS), st.none()),
    st.tuples(st.sampled_from(["in", "not in"]), st.sampled_from(TEXTS), st.lists(WORDS)),
    st.tuples(st.sampled_from(["in", "not in"]), st.sampled_from(NUMBERS), st.lists(COUNTS)),
    st.tuples(st.just("part"), st.sampled_from(TEXTS), WORDS),
    st.tuples(st.just("startswith"), st.sampled_from(TEXTS), WORDS),
    st.tuples(st.just("endswith"), st.sampled_from(TEXTS), WORDS),
    st.tuples(st.just("flag"), st.sampled_from(FLAGS), st.none()),
)
trees = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
        st.tuples(st.just("not"), inner, st.none()),
    ),
    max_leaves=8,
)


def text_of(tree: Any) -> str:
    match tree:
        case "and" | "or" as word, left, right:
            return f"({text_of(left)} {word} {text_of(right)})"
        case "not", inner, _:
            return f"(not {text_of(inner)})"
        case "part", field, word:
            return f"({word!r} in {field})"
        case "startswith" | "endswith" as name, field, word:
            return f"{name}({field}, {word!r})"
        case "flag", field, _:
            return str(field)
        case operator, field, value:
            return f"({field} {operator} {value!r})"
    raise AssertionError(tree)


def holds(tree: Any, fields: dict[str, Any]) -> bool:
    """Tell what *tree* says of parsed JSON, in which absent fields are left out."""
    name, left, right = tree
    if name in {"and", "or"}:
        answers = [holds(left, fields), holds(right, fields)]
        return all(answers) if name == "and" else any(answers)
    if name == "not":
        return not holds(left, fields)
    if right is None and name != "flag":
        return bool((left in fields) == (name == "!="))
    if left not in fields:
        return name in {"!=", "not in"}
    return bool(READINGS[name](fields[left], right))


READINGS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda found, value: found == value,
    "!=": lambda found, value: found != value,
    "<": lambda found, value: found < value,
    "<=": lambda found, value: found < value or found == value,
    ">": lambda found, value: value < found,
    ">=": lambda found, value: not found < value,
    "in": lambda found, values: any(found == value for value in values),
    "not in": lambda found, values: all(found != value for value in values),
    "part": lambda found, value: len(found.split(value)) > 1 if value else True,
    "startswith": lambda found, value: found[: len(value)] == value,
    "endswith": lambda found, value: found[::-1][: len(value)] == value[::-1],
    "flag": lambda found, _value: found,
}


def assert_total_or_refused(text: str, event: MailEvent) -> None:
    try:
        matches = compiled(text)
    except ExpressionError:
        return
    assert matches(event) in {True, False}


@given(st.text(max_size=60), events)
def test_any_text_is_a_total_predicate_or_refused(text: str, event: MailEvent) -> None:
    assert_total_or_refused(text, event)


_PIECES = ["user", "late", "attempt", "'a'", "1", "None", "(", ")", "[", "]", ",", "==", "<", "in"]
_PIECES += ["not", "and", "or", "is", "-", "lower(", "matches(", "startswith(", "{", "}", "True"]


@given(st.lists(st.sampled_from(_PIECES), max_size=12), events)
def test_any_row_of_words_is_a_total_predicate_or_refused(
    words: list[str], event: MailEvent
) -> None:
    assert_total_or_refused(" ".join(words), event)


@given(
    st.dictionaries(st.sampled_from(TEXTS), st.none() | WORDS | st.sets(WORDS), max_size=3), events
)
def test_having_is_equality_or_membership_of_every_field_named(
    wanted: dict[str, Any], event: MailEvent
) -> None:
    fields = json.loads(msgspec.json.encode(event))
    expected = all(
        fields.get(name) in value if isinstance(value, set) else fields.get(name) == value
        for name, value in wanted.items()
    )
    assert having(**wanted)(event) == expected


def test_a_field_that_events_do_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no field sender, subject"):
        having(subject="x", sender="y", user="z")
