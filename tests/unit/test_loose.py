"""Values in several spellings, read as one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.loose import real, text, whole

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=3,
)


@pytest.mark.parametrize("value", [5, 5.0, "5", " 5 ", "5.0", "05"])
def test_a_whole_number_is_one_in_every_spelling(value: object) -> None:
    assert whole(value) == 5


@pytest.mark.parametrize(
    "value", [None, "", "x", "5.5", 5.5, True, [], {}, "\u0665", "nan", "inf", 1e400]
)
def test_what_is_no_whole_number_is_none(value: object) -> None:
    assert whole(value) is None


@given(st.integers(-(10**30), 10**30))
def test_whole_numbers_keep_every_digit(number: int) -> None:
    assert whole(number) == whole(str(number)) == number


@given(ANYTHING)
def test_anything_gives_a_finite_number_or_none_and_some_text(value: object) -> None:
    number = real(value)
    assert number is None or math.isfinite(number)
    assert whole(value) is None or isinstance(whole(value), int)
    assert isinstance(text(value), str)


def test_text_is_that_of_texts_and_numbers() -> None:
    assert [text(value) for value in ("a", 1, 1.5, None, True, [1])] == [
        "a",
        "1",
        "1.5",
        "",
        "",
        "",
    ]
