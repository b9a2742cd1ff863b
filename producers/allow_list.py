"""What of a source's own record is kept: an allow-list of fields, each with its privacy rule.

For sources whose records have an open shape (WHM's rows, GELF, log entries).  What is not on the
list is never stored.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from producers.privacy import Privacy


class Rule(Enum):
    """What is done to a field's value before it is stored."""

    KEEP = auto()
    RECIPIENT = auto()
    """One recipient's address."""
    RECIPIENTS = auto()
    """Several, with commas between or as a list."""
    REPLY = auto()
    """Free text that may quote addresses."""
    SENDER = auto()
    """The name or address of an account."""
    CLIENT = auto()
    """The address that a client connected from."""


AllowList = Mapping[str, Rule]
"""Rules by field."""

_SEPARATOR: Final = ","
# A quoted local may hold commas; its bound (RFC 5321, 4.5.3.1.1) also bounds the work.
_ADDRESSES: Final = re.compile(r"""(?:"(?:[^"\\]|\\.){0,64}+"|[^,])+""", re.DOTALL)


def _recipients(privacy: Privacy, text: str) -> str:
    return _SEPARATOR.join(privacy.recipient(one.strip()) for one in _ADDRESSES.findall(text))


_APPLY: Final[Mapping[Rule, Callable[[Privacy, str], str]]] = {
    Rule.KEEP: lambda _privacy, text: text,
    Rule.RECIPIENT: Privacy.recipient,
    Rule.RECIPIENTS: _recipients,
    Rule.REPLY: Privacy.reply,
    Rule.SENDER: Privacy.sender,
    Rule.CLIENT: Privacy.client,
}


class Cut(NamedTuple):
    """A record as it may be stored."""

    record: dict[str, Any]
    dropped: int
    """Fields that are not on the list, or hold objects: nobody knows what is in those."""


def cut(record: Mapping[str, Any], allowed: AllowList, privacy: Privacy) -> Cut:
    """Return *record* with only the fields *allowed*, privacy applied; names and order stay."""
    kept = {
        name: _stored(value, allowed[name], privacy)
        for name, value in record.items()
        if name in allowed and not _holds_objects(value)
    }
    return Cut(kept, len(record) - len(kept))


def _holds_objects(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, dict | list) for item in value)
    return isinstance(value, dict)


def _stored(value: Any, rule: Rule, privacy: Privacy) -> Any:
    if isinstance(value, list):
        return [_stored(item, rule, privacy) for item in value]
    return _APPLY[rule](privacy, value) if isinstance(value, str) and value else value
