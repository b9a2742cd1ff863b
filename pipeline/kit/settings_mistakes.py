"""What pydantic found wrong, as sentences for an operator: what was expected, never what was given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pipeline.kit.settings_shape import Place, all_keys, dotted, keys_of, model_at

_KEY_MARK: Final = "[key]"
"""What pydantic adds to the place of an error in a key rather than in its value."""

_SENTENCES: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "kind": lambda ctx: f"expected {ctx['expected']}",
    "missing": lambda _: "is missing",
    "int_type": lambda _: "expected a whole number",
    "int_from_float": lambda _: "expected a whole number",
    "bool_type": lambda _: "expected true or false",
    "string_type": lambda _: "expected text (in quotes, if it looks like a number)",
    "string_unicode": lambda _: "expected text of valid characters",
    "string_too_short": lambda _: "expected text that is not empty",
    "tuple_type": lambda _: "expected a list",
    "dict_type": lambda _: "expected keys with values",
    "model_type": lambda _: "expected keys with values",
    "too_short": lambda ctx: f"expected a list of {ctx['min_length']} or more",
    "literal_error": lambda ctx: f"expected {ctx['expected']}".replace("'", ""),
    "greater_than_equal": lambda ctx: f"expected a whole number of {ctx['ge']} or more",
    "less_than_equal": lambda ctx: f"expected a whole number of {ctx['le']} or less",
}


def mistake_of(root: type[BaseModel], error: ErrorDetails) -> tuple[Place, str]:
    """Return where pydantic's *error* is and what to say about it."""
    place, context = error["loc"], error.get("ctx", {})
    if place and place[-1] == _KEY_MARK:
        place = place[:-1]
    if error["type"] == "unknown_key":
        return place, _unknown(place, context["known"], ())
    if error["type"] == "extra_forbidden":
        model = model_at(root, place[:-1])
        known = tuple(keys_of(model)) if model is not None else ()
        return place, _unknown(place, known, tuple(all_keys(root)))
    sentence = _SENTENCES.get(error["type"])
    return place, sentence(context) if sentence else "expected another value"


def _unknown(place: Place, siblings: Iterable[str], everywhere: tuple[Place, ...]) -> str:
    """Name the nearest known key: one of the same section, or the same word in another."""
    name = str(place[-1])
    near = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    elsewhere = [known for known in everywhere if known[-1] == name]
    if not near and elsewhere:
        return f"unknown key; the nearest known key is {dotted(elsewhere[0])}"
    near = near or difflib.get_close_matches(name, siblings, n=1, cutoff=0.0)
    if not near:
        return "unknown key"
    return f"unknown key; the nearest known key is {dotted((*place[:-1], near[0]))}"
