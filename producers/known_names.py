"""Which names are accounts': those that have logged in within a day, as far as we have seen.

An attacker may try any name; what nobody has is never shown by name.  Bounded, whatever comes.
"""

from __future__ import annotations

from typing import Final

from pipeline.core.pane import DAY_MS

MOST_NAMES: Final = 100_000
LONGEST_NAME: Final = 320


class KnownNames:
    """Names by their newest successful login."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        """Remember at most *most* names; beyond, the one longest unheard of goes."""
        self._most = most
        self._seen_ms: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._seen_ms)

    def succeeded(self, name: str, now_ms: int) -> None:
        """Note that *name* has logged in."""
        if len(name) > LONGEST_NAME:
            return
        name = name.casefold()
        self._seen_ms.pop(name, None)
        self._seen_ms[name] = now_ms
        if len(self._seen_ms) > self._most:
            del self._seen_ms[next(iter(self._seen_ms))]

    def has(self, name: str, now_ms: int) -> bool:
        """Tell whether *name* has logged in within the last day."""
        seen_ms = self._seen_ms.get(name.casefold())
        return seen_ms is not None and now_ms - seen_ms <= DAY_MS
