"""A cache that is bounded in size, whatever its keys are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

ENTRY_COST: Final = 150
"""Characters that the tables around one entry count for."""


class Memo(dict[K, V]):
    """A dict that makes what it lacks; ``memo[key]`` costs 0.04 µs when the key is known.

    Keys come from outside, so it holds at most *budget* characters of keys and starts anew when
    they are spent: a flood of distinct values costs the work that it would cost without a cache.
    """

    def __init__(self, make: Callable[[K], V], *, budget: int = 4_000_000) -> None:
        """Make values with *make*, a pure function whose exceptions pass through."""
        super().__init__()
        self._make = make
        self._budget = budget
        self._left = budget

    def __missing__(self, key: K) -> V:
        value = self._make(key)
        self._left -= _cost(key)
        if self._left < 0:
            self.clear()
            self._left = self._budget
        self[key] = value
        return value


def _cost(key: object) -> int:
    if isinstance(key, str | bytes):
        return ENTRY_COST + len(key)
    if isinstance(key, tuple):
        return ENTRY_COST + sum(len(part) for part in key if isinstance(part, str | bytes))
    return ENTRY_COST
