"""What the view answers, out of its memory.  Pure: the time is the board's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from consumers.view.alerts import Alerts
from consumers.view.nodes import Nodes
from consumers.view.ranking import Ranked, grouped, highest, one_key
from consumers.view.recent import Detail, Recent
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAMILIES, FAMILY, KEY_SEPARATOR, Family, Sum
from pipeline.core.pane import HOUR_MS, pane_length, panes_of_window, window_label
from pipeline.fold.board import Board

_WHOLE: Final = ("user", "node", "client_ip", "user_auth")
"""The families whose sums over all keys are shown: customer mail, all mail, logins."""


class RefusedError(Exception):
    """A question that cannot be answered, with the status of HTTP and the reason."""

    def __init__(self, status: int, error: str, detail: str) -> None:
        """Answer with *status*, a constant *error* and a sentence."""
        super().__init__(detail)
        self.status, self.error, self.detail = status, error, detail


class Answers:
    """The questions, one method each; every answer says when and whether it is complete."""

    def __init__(
        self,
        board: Board,
        recent: Recent,
        nodes: Nodes,
        alerts: Alerts,
        complete: Callable[[], bool],
    ) -> None:
        """Answer from what is folded and remembered."""
        self._board = board
        self._recent = recent
        self._nodes = nodes
        self._alerts = alerts
        self._complete = complete

    @property
    def windows(self) -> dict[str, int]:
        """Return the windows by name."""
        return {window_label(window): window for window in self._board.windows_ms}

    def metrics(self) -> dict[str, Any]:
        """Return the sums over all keys, by window, family and event type."""
        windows: dict[str, dict[str, dict[str, int]]] = {}
        for name, window in self.windows.items():
            windows[name] = {}
            for family in _WHOLE:
                totals: dict[str, int] = {}
                for row in self._whole(FAMILY[family], window):
                    totals[row[0]] = totals.get(row[0], 0) + row[1]
                windows[name][family] = totals
        dimensions = {
            family.name: {
                "labels": list(family.labels),
                "event_types": list(family.event_types),
                "by": _bounded_labels(family),
            }
            for family in FAMILIES
        }
        return self.told(windows=windows, dimensions=dimensions)

    def nodes(self) -> dict[str, Any]:
        """Return every node that was heard of, and what events come from."""
        now_ms = self._board.now_ms
        sources = [
            {
                "source": source,
                "origin": origin,
                "events": held.events,
                "last_received": held.received_ms / 1000,
                "last_event": held.event_ms / 1000,
                "silent_s": max(0, now_ms - held.received_ms) / 1000,
            }
            for (source, origin), held in self._recent.sources()
        ]
        return self.told(nodes=self._nodes.shown(now_ms), sources=sources)

    def alerts(self) -> dict[str, Any]:
        """Return the newest alerts."""
        return self.told(alerts=self._alerts.shown())

    def top(
        self, dimension: str, window: str, event_type: str | None, n: int, by: str | None
    ) -> dict[str, Any]:
        """Return the highest keys of a dimension.

        Raises:
            RefusedError: It has no such event type or label.
        """
        family, window_ms = FAMILY[dimension], self.windows[window]
        if event_type is not None and event_type not in family.event_types:
            raise RefusedError(
                400, "invalid_parameter", f"event_type: {dimension} does not count it"
            )
        if by is None:
            ranking = highest(self._board, family, window_ms, event_type, n)
            labels = list(family.labels)
        else:
            if by not in _bounded_labels(family):
                known = ", ".join(_bounded_labels(family)) or "nothing"
                raise RefusedError(
                    400, "invalid_parameter", f"by: {dimension} is grouped by {known}"
                )
            ranking = grouped(
                self._board, family, window_ms, event_type, _bounded_labels(family).index(by)
            )
            labels = [by]
        return self.told(
            dimension=dimension,
            window=window,
            event_type=event_type,
            labels=labels,
            keys=ranking.keys,
            total=ranking.total,
            top=[self._row(dimension, labels, row) for row in ranking.rows[:n]],
        )

    def series(
        self, dimension: str, key: tuple[str, ...], from_ms: int | None, to_ms: int | None
    ) -> dict[str, Any]:
        """Return events by type over time, of one key or of all.

        Raises:
            RefusedError: The key has another number of fields, or the time is not in memory.
        """
        family, joined = FAMILY[dimension], _joined(FAMILY[dimension], key)
        now_ms = self._board.now_ms
        window_ms = self._window_since(from_ms)
        to_ms = now_ms if to_ms is None else min(to_ms, now_ms)
        step = pane_length(window_ms)
        starts = panes_of_window(now_ms, window_ms)
        first = starts[0] if from_ms is None else from_ms - from_ms % step
        if first < starts[0] or to_ms < starts[0]:
            length = window_label(window_ms)
            raise RefusedError(
                404,
                "not_in_memory",
                f"from: the view holds {length}, and has no older store to ask: sinks.postgres",
            )
        held = self._board.history(family, window_ms, Sum.COUNT, joined)
        times = [start for start in starts if first <= start <= to_ms]
        columns = {
            name: [int(held[start][number]) if start in held else 0 for start in times]
            for number, name in enumerate(EVENT_TYPES)
            if name in family.event_types
        }
        return self.told(
            dimension=dimension,
            key=dict(zip(family.labels, key, strict=True)) if key else None,
            step_s=step // 1000,
            times=[start // 1000 for start in times],
            events={name: column for name, column in columns.items() if any(column)},
        )

    @property
    def now_ms(self) -> int:
        """Return the clock of all windows."""
        return self._board.now_ms

    @property
    def begins_ms(self) -> int:
        """Return the start of the oldest pane in memory."""
        return panes_of_window(self._board.now_ms, self._board.windows_ms[-1])[0]

    def counts(
        self, dimension: str, key: tuple[str, ...], first_ms: int, to_ms: int
    ) -> dict[int, dict[str, int]]:
        """Return events by type of the panes that begin from *first_ms* to *to_ms*, by their start.

        Raises:
            RefusedError: The key has another number of fields.
        """
        family = FAMILY[dimension]
        window_ms = self._board.windows_ms[-1]
        held = self._board.history(family, window_ms, Sum.COUNT, _joined(family, key))
        return {
            start: {
                name: int(counted[number])
                for number, name in enumerate(EVENT_TYPES)
                if name in family.event_types and counted[number]
            }
            for start, counted in held.items()
            if first_ms <= start <= to_ms
        }

    def _window_since(self, from_ms: int | None) -> int:
        """Return a window that holds *from_ms*, if any does: up to an hour its panes are short."""
        windows = self._board.windows_ms
        first = max((window for window in windows if window <= HOUR_MS), default=windows[0])
        if from_ms is None:
            return first
        now_ms = self._board.now_ms
        holding = (
            window
            for window in windows
            if window >= first and panes_of_window(now_ms, window)[0] <= from_ms
        )
        return min(holding, default=windows[-1])

    def destination(self, name: str) -> dict[str, Any]:
        """Return how delivery to a recipient domain goes.

        Raises:
            RefusedError: Nothing is known of it.
        """
        windows = {}
        for label, window_ms in self.windows.items():
            found = one_key(self._board, FAMILY["destination"], window_ms, name)
            if found is not None:
                windows[label] = found.events
        domain = self._recent.domain(name)
        if not windows and domain is None:
            raise RefusedError(404, "unknown_destination", "No mail to this domain is in memory.")
        detail = self._recent.detail("destination", name)
        return self.told(
            domain=name,
            events=windows,
            classes=self._classes(name),
            waiting=None if domain is None else domain.waiting,
            delivery_ms=None
            if domain is None
            else {f"p{percent}": domain.percentile(percent) for percent in (50, 95)},
            hosts=[] if domain is None else sorted(host for host, _ in domain.hosts.items()),
            **_detailed(detail),
        )

    def _classes(self, name: str) -> dict[str, dict[str, int]]:
        """Return failures to a domain by window and class."""
        family = FAMILY["destination_failure"]
        classes: dict[str, dict[str, int]] = {}
        self._board.shares(family.name)  # which folds what waits, and names its groups
        for label, window_ms in self.windows.items():
            held: dict[str, int] = {}
            for (bounce_class,) in self._board.groups(family.name):
                key = KEY_SEPARATOR.join((name, bounce_class))
                found = one_key(self._board, family, window_ms, key)
                if found is not None:
                    held[bounce_class] = sum(found.events.values())
            if held:
                classes[label] = held
        return classes

    def _whole(self, family: Family, window_ms: int) -> list[tuple[str, int]]:
        count = family.sums.index(Sum.COUNT)
        found: list[tuple[str, int]] = []
        for share in self._board.shares(family.name):
            for number, name in enumerate(EVENT_TYPES):
                if name in family.event_types:
                    column = share.running[window_ms][count]
                    total = int(column[share.event_type == number].sum())
                    if total:
                        found.append((name, total))
        return found

    def _row(self, dimension: str, labels: list[str], row: Ranked) -> dict[str, Any]:
        detail = self._recent.detail(dimension, KEY_SEPARATOR.join(row.key))
        return {
            "key": dict(zip(labels, row.key, strict=True)),
            "count": row.count,
            "events": row.events,
            **row.sums,
            **_detailed(detail),
        }

    def told(self, **fields: Any) -> dict[str, Any]:
        """Return an answer: when and whether it is complete, and *fields*."""
        return {"at": self._board.now_ms / 1000, "complete": self._complete(), **fields}


def _joined(family: Family, key: tuple[str, ...]) -> str | None:
    """Return the key as the board has it; None: it is empty, for all keys."""
    if key and len(key) != len(family.fields):
        fields = ", ".join(family.labels)
        raise RefusedError(400, "invalid_parameter", f"key: give it once for each of {fields}")
    return KEY_SEPARATOR.join(key) if key else None


def _bounded_labels(family: Family) -> list[str]:
    label = dict(zip(family.fields, family.labels, strict=True))
    return [label[name] for name in family.bounded]


def _detailed(detail: Detail | None) -> Mapping[str, Any]:
    return {
        "first_seen": None if detail is None else detail.first_ms / 1000,
        "last_seen": None if detail is None else detail.last_ms / 1000,
        "last_reply": None if detail is None else detail.reply,
    }
