"""Families that a configuration adds to those of the table, and the choice of families."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from pipeline.core.families import FAMILIES, FAMILY, Export, Family, Mail
from pipeline.core.tally import COUNTERS, HISTOGRAMS

DIMENSION_FIELDS: Final = (
    *("source", "feed", "origin", "direction"),
    *("user", "login", "auth_user", "from_user", "from_domain", "from_address", "auth_method"),
    *("to_domain", "sending_ip", "client_ip"),
    *("mta_node", "zone", "mx_host", "mx_ip", "router", "transport", "attempt"),
    *("response_code", "enhanced_status", "error_code"),
    *("provider", "bounce_class", "bounce_category"),
)
"""Fields that mail may be counted by: never an id of a message, a recipient or free text."""

MOST_FIELDS: Final = 2
MOST_DIMENSIONS: Final = 20
"""Each one costs the worker about as much as a family of the table."""

_CLOSED: Final = frozenset({"direction", "provider", "bounce_class", "bounce_category"})
"""Fields of few values, which stay under ``_other``."""
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_MOST_LETTERS: Final = 40


def metric_of(name: str) -> str:
    """Return the metric of the dimension *name*."""
    return f"mail_{name}_events"


_TAKEN: Final = frozenset(
    [
        *(export.metric for family in FAMILIES for export in family.exports),
        *(family.last_event for family in FAMILIES if family.last_event is not None),
        *(counter.name.removesuffix("_total") for counter in (*COUNTERS, *HISTOGRAMS)),
    ]
)


def is_name(text: str) -> bool:
    """Tell whether *text* may be the name of a dimension: its metric is legal, and new."""
    if len(text) > _MOST_LETTERS or _NAME.fullmatch(text) is None:
        return False
    return text not in FAMILY and metric_of(text) not in _TAKEN


def dimension(name: str, fields: Sequence[str]) -> Family:
    """Return the family that counts mail by *fields*.

    Its name holds the fields, so that what an older configuration counted under *name* by other
    fields is another family: skipped, never mixed.
    """
    every = "direction" in fields
    what = "all mail, DSNs and probes included," if every else "customer mail"
    return Family(
        name=f"{name}:{','.join(fields)}",
        fields=tuple(fields),
        labels=tuple(fields),
        mail=Mail.ALL if every else Mail.CUSTOMER,
        exports=(
            Export(
                metric_of(name),
                f"Events of {what} by {' and '.join(fields)}, as configured; units as in mail_user_events.",
            ),
        ),
        bounded=tuple(field for field in fields if field in _CLOSED),
    )


def chosen(
    off: Collection[str] = (), dimensions: Mapping[str, Sequence[str]] | None = None
) -> tuple[Family, ...]:
    """Return the families of the table but those *off*, and those of *dimensions*."""
    added = [dimension(name, fields) for name, fields in (dimensions or {}).items()]
    return (*(family for family in FAMILIES if family.name not in off), *added)
