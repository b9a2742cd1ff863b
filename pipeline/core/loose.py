"""Values of sources that write one thing in several ways: ``5``, ``"5"``, ``5.0``, ``""``, ``null``.

Each function gives the value in its one form, or nothing; none raises.  Pure.
"""

from __future__ import annotations

import math
from typing import Final

_MAX_DIGITS: Final = 32
"""Python refuses to read numbers of thousands of digits; no field here has more than 20."""


def whole(value: object) -> int | None:
    """Return the whole number that *value* is or spells, else None."""
    number = real(value)
    if number is None or number != math.floor(number):
        return None
    if isinstance(value, int):
        return value
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.removeprefix("-").isdecimal() else int(number)


def real(value: object) -> float | None:
    """Return the finite number that *value* is or spells, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > _MAX_DIGITS or not value.isascii()):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def text(value: object) -> str:
    """Return *value* as text; empty if it is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return ""
