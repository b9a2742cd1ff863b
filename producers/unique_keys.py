"""Proof that no object of a JSON text has a key twice.

Decoders silently keep one of the two values, and two readers may keep different ones.  An exact
check costs 8 µs per event, so two cheaper proofs come first; both count the places in the text where
a quotation mark meets a colon.  Every key ends in such a place (unless blanks stand between), so
if there are only as many of them as *different* keys that a decoder returned, no key stood twice.
Texts may hold such places too (``"quoted": ...``): then the counts differ, and the exact check tells.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import numpy as np
import orjson

from pipeline.core.errors import Reason, RecordError
from pipeline.core.posted import ACCEPTED_NAMES, malformed

_KEY_END: Final = b'":'
_BLANK_KEY_END: Final = re.compile(rb'"[ \t\n\r]+:')
_ESCAPED_END: Final = re.compile(rb"\\u00(?:22|3[aA])")
_PAIR: Final = np.dtype("<u2")
_SHORT: Final = 256


def count_pairs(text: bytes, pair: bytes) -> int:
    """Return how often the two different bytes of *pair* stand side by side in *text*.

    ``bytes.count`` takes six times as long, because one of the bytes is frequent in JSON.
    """
    if len(text) < _SHORT:
        return text.count(pair)
    word = int.from_bytes(pair, "little")
    even = np.frombuffer(text, _PAIR, count=len(text) // 2)
    odd = np.frombuffer(text, _PAIR, count=(len(text) - 1) // 2, offset=1)
    return int(np.count_nonzero(even == word) + np.count_nonzero(odd == word))


def count_key_ends(text: bytes) -> int:
    """Return how many places of *text* may end a key."""
    return count_pairs(text, _KEY_END)


def only_these(text: bytes, key_ends: int) -> bool:
    """Tell whether *text* certainly holds no keys but those that are known, each once.

    Args:
        text: What was decoded.
        key_ends: Places that may end a key, counted in the decoded objects once they are encoded
            again without the keys that were absent; plus the keys outside those objects.

    A string that becomes ``":`` only by decoding its escapes would be counted on one side alone,
    so texts with such escapes are left to the other checks.
    """
    return (
        count_key_ends(text) == key_ends
        and not _has_blank_key_ends(text)
        and not (b"\\" in text and _ESCAPED_END.search(text))
    )


def unknown_keys(text: bytes, *, batch: bool) -> int:
    """Return how many keys of *text* are no field that may be posted.

    Args:
        text: One event, or an object with a list of them as ``events``.
        batch: Which of the two.

    Raises:
        RecordError: The text is not JSON, or a key stands twice in one object.
    """
    try:
        root: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        root = load(text)  # e.g. half a surrogate pair: JSON by its grammar
        return _unknown(_objects(root, batch=batch), root, batch=batch)
    objects = _objects(root, batch=batch)
    keys = sum(map(len, objects)) + (len(root) if batch else 0)
    if count_key_ends(text) != keys or _has_blank_key_ends(text):
        load(text)
    return _unknown(objects, root, batch=batch)


def load(text: bytes) -> Any:
    """Decode *text* with the exact check.

    Raises:
        RecordError: The text is not JSON, or a key stands twice in one object.
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as exc:
        raise malformed(exc) from exc


def _has_blank_key_ends(text: bytes) -> bool:
    blanks = b"\n" in text or b"\t" in text or b"\r" in text or count_pairs(text, b'" ') > 0
    return blanks and _BLANK_KEY_END.search(text) is not None


def _objects(root: Any, *, batch: bool) -> list[dict[str, Any]]:
    items = root.get("events") if batch and isinstance(root, dict) else [root]
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _unknown(objects: list[dict[str, Any]], root: Any, *, batch: bool) -> int:
    known = sum(len(ACCEPTED_NAMES.intersection(item)) for item in objects)
    outside = len(root) - ("events" in root) if batch and isinstance(root, dict) else 0
    return sum(map(len, objects)) - known + outside


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise RecordError(Reason.MALFORMED, "a key stands twice in one object")
    return unique


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
