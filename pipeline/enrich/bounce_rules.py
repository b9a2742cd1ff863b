"""Bounce rules, read from the TOML files in ``rules/`` and checked while they are read.

``docs/bounces.md`` says what the files hold and how to write a rule; ``classify`` says in which
order they are asked.  Every rule has samples: texts of which it, and no other, decides the class.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Annotated, Final, TypeVar

import msgspec

from pipeline.enrich.phrases import Phrase

UNCLASSIFIED: Final = "unclassified"
_FOLDER: Final = files("pipeline.enrich") / "rules"


class Category(StrEnum):
    """What an operator does about it; becomes ``bounce_category``."""

    HARD = "hard"
    """The address is dead: stop sending to it."""
    SOFT = "soft"
    """It may work later."""
    BLOCK = "block"
    """Our address or domain is refused."""
    POLICY = "policy"
    CONTENT = "content"
    NETWORK = "network"
    PROTOCOL = "protocol"
    RESPONSE = "response"
    """No failure: a person or a program answered."""
    UNKNOWN = "unknown"


class Scope(StrEnum):
    """What the failure is about, so what else it will strike."""

    RECIPIENT = "recipient"
    SENDER = "sender"
    CONTENT = "content"
    IP_REPUTATION = "ip-reputation"
    RATE = "rate"
    SERVER = "server"
    NETWORK = "network"
    POLICY = "policy"


class Hard(StrEnum):
    """Whether the same mail would fail again."""

    YES = "yes"
    """Unless the reply is a 4xx."""
    REPLY = "reply"
    """If the reply is a 5xx."""
    NO = "no"


class BounceClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What follows from a class."""

    category: Category
    scope: Scope
    hard: Hard
    meaning: str


class RuleEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"name": "class"}):
    """A rule as its file has it."""

    id: str
    name: str
    samples: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    match: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    reply: Annotated[str, msgspec.Meta(pattern="^[45]$")] | None = None


class _Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[RuleEntry, ...]


class _Row(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"bounce_class": "class"}
):
    """One row of a table: of a status, a reply code or a local error."""

    bounce_class: str
    sample: str
    name: str = ""
    """What the registry calls it."""
    transient: str | None = None
    """The class when the reply is a 4xx, if it is another."""


@dataclass(frozen=True, slots=True)
class TextRule:
    """One rule on the words of a reply."""

    id: str
    bounce_class: str
    phrases: tuple[Phrase, ...]
    unless: tuple[Phrase, ...]
    """Phrases that must not be there."""
    statuses: tuple[tuple[str, int, int], ...]
    """Subject, first and last detail; no status but these, unless empty."""
    reply: str | None
    """Only when the code or status begins so: of a 4xx the same words mean something else."""
    samples: tuple[str, ...]

    def fits(self, words: str, status: str | None, first: str) -> bool:
        """Tell whether the rule decides a reply of these words and status, which begins with *first*."""
        return (
            (self.reply is None or self.reply == first)
            and (not self.statuses or _within(status, self.statuses))
            and (not self.phrases or any(phrase.found_in(words) for phrase in self.phrases))
            and not any(phrase.found_in(words) for phrase in self.unless)
        )


def _within(status: str | None, ranges: Iterable[tuple[str, int, int]]) -> bool:
    _kind, _, rest = (status or "").partition(".")
    subject, _, detail = rest.partition(".")
    return any(subject == wanted and low <= int(detail) <= high for wanted, low, high in ranges)


_T = TypeVar("_T")


def read(name: str, form: type[_T]) -> _T:
    """Return a file of the folder.

    Raises:
        ValueError: It is not of that form.
    """
    try:
        return msgspec.convert(tomllib.loads((_FOLDER / name).read_text("utf-8")), form)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as exc:
        raise ValueError(f"{name}: {exc}") from exc


CLASSES: Final = read("classes.toml", dict[str, BounceClass])
"""Every class."""


def text_rule(rule: RuleEntry, prefix: str = "") -> TextRule:
    """Return a rule that is ready to use.

    Raises:
        ValueError: Something in it cannot be.
    """
    if not rule.match and not rule.status:
        raise ValueError(f"rule {rule.id} matches everything")
    _known(rule.name, f"rule {rule.id}")
    return TextRule(
        prefix + rule.id,
        rule.name,
        tuple(map(Phrase, rule.match)),
        tuple(map(Phrase, rule.unless)),
        tuple(map(_range, rule.status)),
        rule.reply,
        rule.samples,
    )


def _range(text: str) -> tuple[str, int, int]:
    """Read ``7.509`` or ``7.606-649``."""
    subject, _, details = text.partition(".")
    low, _, high = details.partition("-")
    return subject, int(low), int(high or low)


def _known(bounce_class: str | None, where: str) -> None:
    if bounce_class is not None and bounce_class not in CLASSES:
        raise ValueError(f"{where}: {bounce_class} is not one of classes.toml")


def _texts(name: str) -> tuple[TextRule, ...]:
    return tuple(text_rule(rule) for rule in read(name, _Rules).rule)


def _by_provider() -> dict[str, tuple[TextRule, ...]]:
    found: dict[str, tuple[TextRule, ...]] = {}
    for path in sorted((_FOLDER / "providers").iterdir(), key=lambda one: one.name):
        provider = path.name.removesuffix(".toml")
        rules = read(f"providers/{path.name}", _Rules).rule
        found[provider] = tuple(text_rule(rule, f"{provider}.") for rule in rules)
    return found


def _rows(name: str) -> dict[str, _Row]:
    rows = read(name, dict[str, _Row])
    for key, row in rows.items():
        _known(row.bounce_class, f"{name}: {key}")
        _known(row.transient, f"{name}: {key}")
    return rows


def _mapping(name: str) -> dict[str, dict[str, str]]:
    mapping = read(name, dict[str, dict[str, str]])
    for system, classes in mapping.items():
        for theirs, ours in classes.items():
            _known(ours, f"{name}: {system}.{theirs}")
    return mapping


def check_ids(rules: Iterable[TextRule]) -> None:
    """Check that every rule has an id of its own.

    Raises:
        ValueError: Two have the same.
    """
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise ValueError(f"two rules have the id {rule.id}")
        seen.add(rule.id)


BY_PROVIDER: Final[Mapping[str, tuple[TextRule, ...]]] = _by_provider()
"""Rules on what one provider says."""
STRONG_TEXTS: Final = _texts("texts.toml")
"""Texts that say more than any code beside them."""
WEAK_TEXTS: Final = _texts("weak.toml")
"""Texts that say more than a reply code alone, or than a status that says nothing."""
LOCAL_TEXTS: Final = _texts("local.toml")
"""Texts of errors of our own side, read only when there was no reply, and first."""
CONNECTION_TEXTS: Final = _texts("connection.toml")
"""Texts of lost connections, read only when there was no reply and no strong text."""
STATUS: Final = _rows("status.toml")
"""By subject and detail of the enhanced status, or by the subject alone."""
CODE: Final = _rows("codes.toml")
"""By reply code; ``4xx`` is every other code that begins with 4."""
LOCAL_ERROR: Final = _rows("errors.toml")
"""By the names of errors of Node (libuv, c-ares, TLS), of its mailers and of our own senders."""
THEIR_CLASSES: Final = _mapping("theirs.toml")
"""By system: its classes or categories, and which of ours they are."""
SOURCE_CATEGORY: Final = {
    theirs: ours for theirs, ours in THEIR_CLASSES["zonemta"].items() if ours != UNCLASSIFIED
}
"""What ZoneMTA said of a reply, as a hint."""

VAGUE_STATUS: Final = frozenset({"0.0", "5.0", "7.0", "7.1"})
"""Subject and detail of statuses that say little: a weak text, a hint or a code says more."""

check_ids(
    (
        *(rule for rules in BY_PROVIDER.values() for rule in rules),
        *STRONG_TEXTS,
        *WEAK_TEXTS,
        *LOCAL_TEXTS,
        *CONNECTION_TEXTS,
    )
)
