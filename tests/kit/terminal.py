"""What a program shows on a terminal."""

from __future__ import annotations

import os


def read_all(terminal: int) -> bytes:
    """Return what comes until nobody has the other end open any more."""
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    return shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""
