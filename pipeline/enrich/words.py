"""The words of a reply, without what differs from one mail to the next.

Rules match words, and known replies are found again by their words, so addresses, IP addresses,
ids, numbers and codes become placeholders: ``<address>``, ``<ip>``, ``<id>``, ``#``.  The parts of
host names and URLs are words that begin with a slash: ``zen.spamhaus.org`` is ``/zen /spamhaus
/org``.  The end of a sentence is the word ``.``.  All is lower case, and ``doesn't`` is ``does not``.

Every word is followed by a space and the text begins with one, so that a look for `` mailbox full ``
finds whole words only.  Words of a reply are cached one by one: 2 µs for a reply of 30 words that
was never seen before, though each has an id of its own in it.
"""

from __future__ import annotations

import re
from typing import Final

from pipeline.core.families import NO_VALUE
from pipeline.enrich.memo import Memo

LONGEST_WORD: Final = 32
"""A word of letters alone that is longer is an id."""
SHORTEST_ID: Final = 6
"""Letters and digits mixed, so many or more, are an id; fewer are a provider's code as ``tss04``."""
URL_PARTS: Final = 8
LOOKED_AT: Final = 128
"""Characters of one piece that are read, which bounds the time that a hostile one takes."""
CODE: Final = 3
"""Digits of a reply code."""
FINGERPRINT: Final = 80
"""Characters of a fingerprint."""

_END: Final = re.compile(r"[.;!?]['\")\]>]*$")
_CODES: Final = re.compile(
    r"[\[(<]?(?:[245]\d\d-?)?#?(?:[245]\.\d{1,3}\.\d{1,3})?[\])>]?[:;,.]*", re.ASCII
)
_CONTINUED: Final = re.compile(r"^[245]\d\d-(?:[245]\.\d{1,3}\.\d{1,3})?", re.ASCII)
_NAME: Final = re.compile(r"[<\"]([^<>\"]+)[>\"][:,.;)]*")
_HOST: Final = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z]{2,}(?![\w@])", re.ASCII)
_ENDING: Final = re.compile(
    "com|net|org|edu|gov|mil|info|biz|eu|de|ch|fr|es|nl|uk|ie|se|fi|dk|pl|cz|sk|hu|ro|ru|ua|ee|lv|lt"
    "|jp|cn|tw|kr|br|mx|ar|ca|au|nz|za|io|local|lan|test|example|invalid"
)
"""Endings by which a name of two parts is a host's, and no sentence that lacks a space."""
_PARTS: Final = re.compile(
    r"(?P<ip>\d{1,3}(?:\.\d{1,3}){3}(?!\d)|(?=[0-9a-f:]*\d)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})"
    r"|(?P<word>[^\W_]+(?:'[^\W_]+)*)",
)
_SPELLINGS: Final = {"cannot": "can not", "can't": "can not", "won't": "will not"}


def word(raw: str) -> str:
    """Return what one piece of a reply between white space stands for: words, or nothing."""
    text = raw.lower()
    if text.isalnum():
        return "" if len(text) == CODE and text.isdigit() and text[0] in "245" else _part(text)
    if _CODES.fullmatch(text):
        return ""
    if "@" in text or "%40" in text:
        return "<address> . " if _END.search(text[-8:]) else "<address> "
    text = _CONTINUED.sub("", text[:LOOKED_AT], count=1)
    return _mixed(text) + (". " if _END.search(text) else "")


def _mixed(text: str) -> str:
    """Return what letters, digits and signs stand for."""
    if "://" in text or text.startswith("www."):
        return _labels(text.partition("://")[2] or text)
    if _NAME.fullmatch(text):
        return "<name> "
    host = _HOST.search(text)
    if host and (host[0].count(".") > 1 or _ENDING.fullmatch(host[0].rpartition(".")[2])):
        return _labels(host[0])
    text = text.replace("e-mail", "email").replace("\u2019", "'")
    found = _PARTS.finditer(text)
    return "".join("<ip> " if one["ip"] else _part(one["word"]) for one in found)


def _part(text: str) -> str:
    """Return what one run of letters and digits stands for."""
    if text.isalpha():
        if len(text) > LONGEST_WORD:
            return "<id> "
        return f"{_SPELLINGS.get(text, text)} "
    if "'" in text:
        if text in _SPELLINGS:
            return f"{_SPELLINGS[text]} "
        return "".join(
            _part(one) for one in text.removesuffix("'s").replace("n't", "'not").split("'")
        )
    if text.isdigit():
        return "# "
    return "<id> " if len(text) >= SHORTEST_ID else f"{text} "


def _labels(text: str) -> str:
    """Return the words of a host name or URL, as far as they are words."""
    labels = [label for label in re.split(r"[\W_]+", text) if len(label) > 1 and label.isalpha()]
    short = (label for label in labels if len(label) <= LONGEST_WORD)
    return "".join(f"/{label} " for _place, label in zip(range(URL_PARTS), short, strict=False))


class Words:
    """Reads replies; holds nothing but a cache of words."""

    def __init__(self) -> None:
        """Start with nothing cached."""
        self._word: Memo[str, str] = Memo(word)

    def of(self, text: str) -> str:
        """Return the words of *text*."""
        return " " + "".join(map(self._word.__getitem__, text.split()))


def fingerprint(code: int | None, status: str | None, words: str, error_code: str | None) -> str:
    """Return a short name of a reply: replies that differ only in addresses, ids and hosts share it.

    ``none`` when nothing is known.

    Args:
        code: Its reply code.
        status: Its enhanced status.
        words: Its words, as :class:`Words` gives them.
        error_code: The mailer's name for a local error; only counts when there are no words.
    """
    told: list[str] = [str(code)] if code is not None else []
    if status is not None:
        told.append(status)
    for one in words.split() or word(error_code or "").split():
        shown = "<host>" if one.startswith("/") else one
        if one != "." and not (shown == "<host>" and told[-1:] == ["<host>"]):
            told.append(shown)
    text = " ".join(told) or NO_VALUE
    return text if len(text) <= FINGERPRINT else text[:FINGERPRINT].rpartition(" ")[0]
