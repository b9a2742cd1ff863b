"""Free space where the local broker keeps its log: a broker that fills its disk stops, uncleanly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from pipeline.kit.clock import Clock

MIN_FREE: Final = 0.03
_ASK_AGAIN_S: Final = 1.0


class DiskSpace:
    """Tells whether a disk is nearly full, asking at most once a second."""

    def __init__(self, path: Path | None, clock: Clock, min_free: float = MIN_FREE) -> None:
        """Watch the disk of *path*; None: there is none to watch.  *min_free* is a share of 1."""
        self._path = path
        self._clock = clock
        self._min_free = min_free
        self._asked: float | None = None
        self._full = False

    def is_full(self) -> bool:
        """Tell whether less than the share is free."""
        now = self._clock.monotonic()
        if self._path is not None and (self._asked is None or now - self._asked >= _ASK_AGAIN_S):
            self._asked = now
            try:
                usage = shutil.disk_usage(self._path)
            except OSError:
                return self._full  # the folder is gone or not there yet: the broker will say so
            self._full = usage.free < self._min_free * usage.total
        return self._full
