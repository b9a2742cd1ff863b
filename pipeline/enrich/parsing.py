"""What a parser is: it makes a posted event of a source's own JSON, or says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from pipeline.core.posted import PostedEvent


class Skip(StrEnum):
    """Why a good record is no event; becomes the metric label ``reason``."""

    SHADOW = "shadow"
    """Another feed of the same installation tells the same."""
    PENDING = "pending"
    """Nothing has happened yet."""
    NOISE = "noise"
    """About neither mail nor logins."""


class Context(NamedTuple):
    """What the headers say that a parser may need."""

    origin: str
    received_ms: int


Parser: TypeAlias = Callable[[bytes, Context], PostedEvent | Skip]
"""Reads a record's value; raises RecordError if it is not what its source sends."""
