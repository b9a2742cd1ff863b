"""The ids of the rows that one server may give again, so that each is written once.  Pure."""

from __future__ import annotations

from typing import Final

MAX_IDS: Final = 1_000_000
"""About 130 MB, reached only by a server that is polled by ``sendunixtime`` and sends over 3 mails a
second for 4 days."""
_STEP_S: Final = 60


class SeenIds:
    """Ids with the latest time at which each may be asked for, bounded in number."""

    def __init__(self, max_ids: int = MAX_IDS) -> None:
        """Begin empty."""
        self._times: dict[str, int] = {}
        self._max_ids = max_ids
        self._forgot_before_s = 0
        self.forgotten_early = 0
        """Ids that had to go although their rows may come again: those will be written twice."""

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._times

    def add(self, event_id: str, time_s: int) -> None:
        """Remember *event_id* for as long as rows of *time_s* are asked for."""
        known = self._times.get(event_id)
        if known is None or known < time_s:
            self._times[event_id] = time_s
        if len(self._times) > self._max_ids:
            self._forget_oldest()

    def forget_before(self, time_s: int) -> None:
        """Forget the ids of rows that are not asked for again: those older than *time_s*."""
        if time_s - self._forgot_before_s < _STEP_S:
            return
        self._forgot_before_s = time_s
        self._times = {one: at for one, at in self._times.items() if at >= time_s}

    def _forget_oldest(self) -> None:
        """Forget a tenth: the oldest by time."""
        by_time = sorted(self._times.items(), key=lambda item: item[1])
        gone = len(by_time) // 10 + 1
        self._times = dict(by_time[gone:])
        self.forgotten_early += gone
