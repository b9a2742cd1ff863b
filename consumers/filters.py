"""Filters: which events a consumer wants."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from pipeline.core.event import MailEvent

Predicate: TypeAlias = Callable[[MailEvent], bool]
"""Tells whether an event is wanted; must not raise."""

Value: TypeAlias = str | int | float | bool | None

FIELDS = MailEvent.__struct_fields__


def having(**wanted: Value | Collection[Value]) -> Predicate:
    """Return the predicate of events whose fields have the *wanted* values, all of them.

    Args:
        wanted: Field of ``MailEvent`` to its value, or to a collection of values of which it must
            have one.  None stands for an absent field.

    Raises:
        ValueError: ``MailEvent`` has no such field.
    """
    unknown = sorted(wanted.keys() - set(FIELDS))
    if unknown:
        raise ValueError(f"MailEvent has no field {', '.join(unknown)}")
    values = [(name, _values(value)) for name, value in wanted.items()]

    def matches(event: MailEvent) -> bool:
        return all(getattr(event, name) in some for name, some in values)

    return matches


def _values(value: Value | Collection[Value]) -> Collection[Value]:
    if isinstance(value, str) or not isinstance(value, Collection):
        return (value,)
    return tuple(value)
