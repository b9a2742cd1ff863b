"""Whose mailboxes: providers by the suffix of an MX host, else of the recipient's domain.

The suffixes stand in ``rules/providers.toml``.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Final

import msgspec

OTHER: Final = "other"

_FILE: Final = files("pipeline.enrich") / "rules" / "providers.toml"


def _table() -> dict[str, str]:
    suffixes = msgspec.convert(tomllib.loads(_FILE.read_text("utf-8")), dict[str, list[str]])
    return {suffix: name for name, listed in suffixes.items() for suffix in listed}


PROVIDERS: Final = _table()
"""Provider by domain suffix.  A name belongs to the longest suffix of whole labels."""

NAMES: Final = (*sorted({*PROVIDERS.values()} - {OTHER}), OTHER)
"""Every value of the label ``provider``."""


def provider_of(name: str) -> str:
    """Return the provider of a host or domain in its normal spelling.

    Only whole labels match: ``mx.google.com`` is Google's, ``notgoogle.com`` is not.
    """
    while name:
        found = PROVIDERS.get(name)
        if found is not None:
            return found
        name = name.partition(".")[2]
    return OTHER
