"""Episodes: each begins once and ends once, whatever is said about it in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.detect.alerts import Alert, Kind
from pipeline.detect.rules import HISTORY_PANES, PANE_MS

Key = tuple[str, ...]

LONGEST_MS: Final = HISTORY_PANES * PANE_MS
"""How much of an episode is kept out of the baseline: what goes on for longer becomes the ordinary."""


@dataclass(slots=True)
class Episode:
    """An open episode."""

    since_ms: int
    last_ms: int
    """Start of the last pane that was out of the ordinary."""
    evidence: dict[str, Any]


class Episodes:
    """The episodes of one kind."""

    def __init__(self, kind: Kind, quiet_panes: int) -> None:
        """End an episode after so many panes in which nothing was out of the ordinary."""
        self._kind = kind
        self._quiet_ms = quiet_panes * PANE_MS
        self._open: dict[Key, Episode] = {}
        self._past: dict[Key, list[tuple[int, int]]] = {}

    @property
    def open(self) -> Mapping[Key, Episode]:
        """Return the open episodes."""
        return self._open

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Take earlier alerts in the order of the log; those of other kinds are passed over."""
        for alert in alerts:
            if alert.kind is not self._kind:
                continue
            if alert.until is None:
                episode = Episode(alert.since, alert.since, dict(alert.evidence))
                self._open[alert.key] = episode
            else:
                self._close(alert.key, alert.since, alert.until)

    def begin(self, key: Key, pane_ms: int, evidence: dict[str, Any]) -> Alert:
        """Begin an episode of *key*, which has none that is open, in this pane."""
        self._open[key] = Episode(pane_ms, pane_ms, evidence)
        return Alert(self._kind, key, pane_ms, evidence=evidence)

    def go_on(self, key: Key, pane_ms: int) -> None:
        """Note that an open episode still goes on in this pane."""
        episode = self._open.get(key)
        if episode is not None:
            episode.last_ms = max(episode.last_ms, pane_ms)

    def end(self, pane_ms: int) -> Iterator[Alert]:
        """End the episodes that were quiet for long enough when this pane closed, by key."""
        for key, episode in sorted(self._open.items()):
            if pane_ms - episode.last_ms >= self._quiet_ms:
                until = episode.last_ms + PANE_MS
                self._close(key, episode.since_ms, until)
                yield Alert(self._kind, key, episode.since_ms, until, episode.evidence)

    def covers(self, key: Key, pane_ms: int) -> bool:
        """Tell whether a pane lies in an episode of *key*, within :data:`LONGEST_MS` of its start."""
        episode = self._open.get(key)
        if episode is not None and 0 <= pane_ms - episode.since_ms < LONGEST_MS:
            return True
        past = self._past.get(key, ())
        return any(since <= pane_ms < min(until, since + LONGEST_MS) for since, until in past)

    def spans(self) -> Iterator[tuple[Key, int, int]]:
        """Yield key, beginning and end of what :meth:`covers` tells."""
        for key, episode in self._open.items():
            yield key, episode.since_ms, episode.since_ms + LONGEST_MS
        for key, spans in self._past.items():
            for since_ms, until_ms in spans:
                yield key, since_ms, min(until_ms, since_ms + LONGEST_MS)

    def forget(self, before_ms: int) -> None:
        """Forget ended episodes that no pane from *before_ms* on lies in."""
        for key, spans in list(self._past.items()):
            kept = [span for span in spans if span[1] > before_ms]
            if kept:
                self._past[key] = kept
            else:
                del self._past[key]

    def _close(self, key: Key, since_ms: int, until_ms: int) -> None:
        self._open.pop(key, None)
        self._past.setdefault(key, []).append((since_ms, until_ms))
