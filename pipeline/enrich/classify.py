"""Bounce classes: why a delivery failed, by the rules of ``bounce_rules``.

The steps, first hit wins: what this provider says, texts that beat the codes (block lists,
greylists, quotas, ...), the enhanced status (RFC 3463 and the IANA registry), texts that beat only
a bare reply code, what the MTA itself made of it, the reply code (RFC 5321); when there was no
reply, the local error.  The class never changes what the MTA did: a 4xx may bounce and a 5xx may
be retried.

Pure: a function of the reply and the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from pipeline.enrich.bounce_rules import (
    BY_PROVIDER,
    CLASSES,
    CODE,
    CONNECTION_TEXTS,
    LOCAL_ERROR,
    LOCAL_TEXTS,
    SOURCE_CATEGORY,
    STATUS,
    STRONG_TEXTS,
    UNCLASSIFIED,
    VAGUE_STATUS,
    WEAK_TEXTS,
    Hard,
    TextRule,
)
from pipeline.enrich.memo import Memo
from pipeline.enrich.words import Words, fingerprint

LOOKED_AT: Final = 600
"""Characters of a reply that the text rules read."""
BUDGET: Final = 1_500_000
"""Characters of each cache: some thousand replies."""


class Reply(NamedTuple):
    """What is known of a failed delivery."""

    code: int | None = None
    status: str | None = None
    text: str | None = None
    """The remote server's words, else the local error's, at most :data:`LOOKED_AT` characters."""
    error_code: str | None = None
    """The mailer's own name for a local error, or the category in which the MTA put the reply."""
    provider: str | None = None


class Bounce(NamedTuple):
    """The result."""

    bounce_class: str
    category: str
    hard: bool
    """The same mail to the same recipient would fail again."""
    scope: str
    rule: str
    """Which rule decided, for example ``mailbox-full`` or ``status.2.2``."""


class _Verdict(NamedTuple):
    bounce_class: str
    rule: str


_UNCLASSIFIED: Final = _Verdict(UNCLASSIFIED, UNCLASSIFIED)


class Classifier:
    """Classifies replies; holds nothing but caches, by the reply and by its words."""

    def __init__(self) -> None:
        """Start with nothing cached."""
        self._words = Words()
        self._by_text: Memo[Reply, Bounce] = Memo(self._by_its_words, budget=BUDGET)
        self._by_words: Memo[Reply, Bounce] = Memo(decide, budget=BUDGET)

    def classify(self, reply: Reply) -> Bounce:
        """Return the class of a failed delivery and what follows from it."""
        return self._by_text[reply]

    def fingerprint(self, reply: Reply) -> str:
        """Return what replies share that differ only in addresses, ids and hosts."""
        words = self.words(reply)
        return fingerprint(reply.code, reply.status, words, reply.error_code)

    def words(self, reply: Reply) -> str:
        """Return the words of the reply, as the rules see them."""
        return self._words.of(reply.text) if reply.text else " "

    def _by_its_words(self, reply: Reply) -> Bounce:
        code, status, _text, error_code, provider = reply
        return self._by_words[Reply(code, status, self.words(reply), error_code, provider)]


def classify(reply: Reply) -> Bounce:
    """Return the class of a failed delivery and what follows from it; caches nothing."""
    return Classifier().classify(reply)


def decide(reply: Reply) -> Bounce:
    """Return the class of a reply whose *text* is its words, as ``words`` gives them."""
    first = (reply.status or str(reply.code or ""))[:1]
    name, rule = _verdict(reply, first)
    known = CLASSES[name]
    hard = known.hard is not Hard.NO and (
        first == "5" if known.hard is Hard.REPLY else first != "4"
    )
    return Bounce(name, known.category.value, hard, known.scope.value, rule)


def _verdict(reply: Reply, first: str) -> _Verdict:
    words = reply.text or ""
    own = _fitting(BY_PROVIDER.get(reply.provider or "", ()), words, reply.status, first)
    if reply.code is None and reply.status is None:
        return own or _local(words, reply.error_code) or _UNCLASSIFIED
    return (
        own
        or _fitting(STRONG_TEXTS, words, reply.status, first)
        or _by_status(reply.status, vague=False)
        or _fitting(WEAK_TEXTS, words, reply.status, first)
        or _by_hint(reply.error_code)
        or _by_status(reply.status, vague=True)
        or _by_code(reply.code)
        or _UNCLASSIFIED
    )


def _fitting(
    rules: Iterable[TextRule], words: str, status: str | None, first: str
) -> _Verdict | None:
    for rule in rules:
        if rule.fits(words, status, first):
            return _Verdict(rule.bounce_class, rule.id)
    return None


def _by_status(status: str | None, *, vague: bool) -> _Verdict | None:
    """Return what a status means, if it is one of those that say little or is none, as *vague* has it."""
    kind, _, rest = (status or "").partition(".")
    if (rest in VAGUE_STATUS) is not vague:
        return None
    key = rest if rest in STATUS else rest.partition(".")[0]
    row = STATUS.get(key)
    if row is None or row.bounce_class == UNCLASSIFIED:
        return None
    if kind == "4" and row.transient is not None:
        return _Verdict(row.transient, f"status.4.{key}")
    return _Verdict(row.bounce_class, f"status.{key}")


def _by_hint(error_code: str | None) -> _Verdict | None:
    hint = (error_code or "").lower()
    name = SOURCE_CATEGORY.get(hint)
    return None if name is None else _Verdict(name, f"hint.{hint}")


def _by_code(code: int | None) -> _Verdict | None:
    key = str(code)
    if key not in CODE and key[0] == "4":
        key = "4xx"
    row = CODE.get(key)
    return None if row is None else _Verdict(row.bounce_class, f"code.{key}")


def _local(words: str, error_code: str | None) -> _Verdict | None:
    name = (error_code or "").upper()
    row = LOCAL_ERROR.get(name)
    if row is not None:
        return _Verdict(row.bounce_class, f"error.{name}")
    return (
        _fitting(LOCAL_TEXTS, words, None, "")
        or _fitting(STRONG_TEXTS, words, None, "")
        or _fitting(CONNECTION_TEXTS, words, None, "")
        or _fitting(WEAK_TEXTS, words, None, "")
        or _by_hint(error_code)
    )
