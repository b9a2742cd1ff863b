"""Phrases: the patterns of bounce rules, made of words as ``words`` gives them.

========== ==============================================================
``full``   that word
``deni*``  a word that begins so
``a|b``    one of several, each of them one of the above
``is?``    may be absent
``*``      up to six words of the same sentence
========== ==============================================================

A phrase without any of these is found with a plain search of text; any other only where its
longest plain part is found, so that hundreds of phrases cost some 10 µs.  No phrase can take more
than a time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from itertools import groupby
from typing import Final

from pipeline.enrich.words import word

GAP: Final = "*"
ANY_LABEL: Final = "/*"
"""Any part of a host name or URL."""
_GAP: Final = "(?:[^ .][^ ]* ){0,6}"
_PLACEHOLDERS: Final = frozenset({"<address>", "<ip>", "<id>", "<name>", "#"})


class Phrase:
    """One phrase; its pattern is made when its plain part was first found."""

    def __init__(self, text: str) -> None:
        """Read *text*.

        Raises:
            ValueError: It is empty, or holds what no word of a reply can be.
        """
        self.text = text
        items = text.split()
        if not items or any(item == GAP or item.endswith("?") for item in (items[0], items[-1])):
            raise ValueError(f"phrase {text!r} must begin and end with a word that is there")
        for item in items:
            _check(item, text)
        self._plain = all(_is_plain(item) for item in items)
        self._part = max(_parts(items), key=len, default="")

    def found_in(self, words: str) -> bool:
        """Tell whether *words* have the phrase in them."""
        if self._part not in words:
            return False
        return self._plain or self._pattern.search(words) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(" " + "".join(_expression(item) for item in self.text.split()))


def _is_plain(item: str) -> bool:
    return not any(sign in item for sign in "*|?")


def _parts(items: Iterable[str]) -> list[str]:
    """Return what must be in a text word for word, if anything."""
    parts = [f" {' '.join(run)} " for plain, run in groupby(items, key=_is_plain) if plain]
    beginnings = (item[:-1] for item in items if "|" not in item and item.endswith("*"))
    return parts + [f" {beginning}" for beginning in beginnings if beginning]


def _expression(item: str) -> str:
    if item == GAP:
        return _GAP
    choices = "|".join(
        re.escape(choice.removesuffix("*")) + ("[^ ]*" if choice.endswith("*") else "")
        for choice in item.removesuffix("?").split("|")
    )
    return f"(?:(?:{choices}) )?" if item.endswith("?") else f"(?:{choices}) "


def _check(item: str, phrase: str) -> None:
    if item == GAP:
        return
    for choice in item.removesuffix("?").split("|"):
        if choice == ANY_LABEL:
            continue
        plain = choice.removesuffix("*").removeprefix("/")
        if plain not in _PLACEHOLDERS and (not plain or word(plain) != f"{plain} "):
            raise ValueError(
                f"phrase {phrase!r}: {choice!r} is no word of a reply; "
                f"it would be {word(plain).strip()!r}"
            )
