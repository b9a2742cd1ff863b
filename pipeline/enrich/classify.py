"""Bounce classes: why a delivery failed, by the rules of ``bounce_rules``.

The steps, first hit wins: texts that beat the codes (block lists, greylists, quotas, ...), the
enhanced status (RFC 3463 and the IANA registry), texts that beat only a bare reply code, the reply
code (RFC 5321), a local error when there was no reply.  The class never changes what the MTA did:
a 4xx may bounce and a 5xx may be retried.

Pure; callers cache by the reply.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pipeline.enrich.bounce_rules import (
    CATEGORY,
    CODE,
    LOCAL_ERROR,
    LOCAL_TEXTS,
    NO_STATUS,
    STATUS,
    STRONG_TEXTS,
    SUBJECT,
    TRANSIENT_STATUS,
    WEAK_TEXTS,
    TextRule,
)

LOOKED_AT: Final = 600
"""Characters of a reply that the text rules read."""


class Reply(NamedTuple):
    """What is known of a failed delivery."""

    code: int | None = None
    status: str | None = None
    text: str | None = None
    """The remote server's words, else the local error's, at most :data:`LOOKED_AT` characters."""
    error_code: str | None = None
    """The mailer's own name for a local error."""


class Bounce(NamedTuple):
    """The result."""

    bounce_class: str
    category: str


_CONTINUED: Final = re.compile(r"\r?\n(?:[245]\d\d[ -](?:[245]\.\d{1,3}\.\d{1,3} ?)?)?")


def classify(reply: Reply) -> Bounce:
    """Return the class and category of a failed delivery."""
    name = _class(reply)
    return Bounce(name, CATEGORY[name].value)


def _class(reply: Reply) -> str:
    text = _CONTINUED.sub(" ", reply.text or "")
    permanent = _first_digit(reply) == "5"
    if reply.code is None and reply.status is None:
        return _local(text, reply.error_code)
    return (
        _matching(STRONG_TEXTS, text, permanent=permanent)
        or _by_status(reply.status, text)
        or _matching(WEAK_TEXTS, text, permanent=permanent)
        or _by_code(reply.code)
    )


def _first_digit(reply: Reply) -> str:
    return (reply.status or str(reply.code or ""))[:1]


def _matching(rules: tuple[TextRule, ...], text: str, *, permanent: bool) -> str | None:
    if not text:
        return None
    for rule in rules:
        if (permanent or not rule.permanent) and rule.pattern.search(text):
            return rule.bounce_class
    return None


def _by_status(status: str | None, text: str) -> str | None:
    if status is None:
        return None
    kind, _, rest = status.partition(".")
    subject = rest.partition(".")[0]
    if rest in NO_STATUS:
        weak = _matching(WEAK_TEXTS, text, permanent=kind == "5")
        return weak or (SUBJECT["7"] if subject == "7" else None)
    if kind == "4" and rest in TRANSIENT_STATUS:
        return TRANSIENT_STATUS[rest]
    return STATUS.get(rest) or SUBJECT.get(subject)


def _by_code(code: int | None) -> str:
    if code is None:
        return "unclassified"
    return CODE.get(code) or ("temporary" if 400 <= code < 500 else "unclassified")


def _local(text: str, error_code: str | None) -> str:
    known = LOCAL_ERROR.get((error_code or "").upper())
    return (
        known
        or _matching(STRONG_TEXTS, text, permanent=False)
        or _matching(LOCAL_TEXTS, text, permanent=False)
        or _matching(WEAK_TEXTS, text, permanent=False)
        or "unclassified"
    )
