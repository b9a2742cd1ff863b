"""When one partition's anomalies are looked for, and what an alert waits for before it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from pipeline.transport.options import EngineOptions
from pipeline.transport.rollups import WatchPlan
from pipeline.transport.tail import ask

LOOK_EVERY_MS: Final = 20_000
"""How often the panes that are not closed are looked at."""


class Watching:
    """The watch over one partition, while this worker owns it."""

    def __init__(
        self, partition: int, plan: WatchPlan, options: EngineOptions, wake: Callable[[], None]
    ) -> None:
        """Call *wake* when something is to be written that was waiting."""
        self._partition, self._plan, self._options = partition, plan, options
        self._wake = wake
        self._looked_ms = 0
        self._asked = False
        self._asking: asyncio.Task[None] | None = None

    def due(self, until: Mapping[int, int] | None, now_ms: int, *, caught_up: bool) -> bool:
        """Tell whether something is to be written now: the roll-up that is due, or alerts.

        While events are looked through for evidence nothing is: a roll-up must not tell that a pane
        was judged before its alerts are out.

        Args:
            until: ``closed_until`` of the roll-up that is due, if one is.
            now_ms: The wall clock.
            caught_up: Whether nothing of the log waits to be folded.
        """
        watch, partition = self._plan.step, self._partition
        if self._asking is not None:
            if not self._asking.done():
                return False
            self._asking = None
            watch.hear(partition)
        if until is not None:
            watch.judge(partition, until)
        if caught_up and now_ms - self._looked_ms >= LOOK_EVERY_MS:
            self._looked_ms = now_ms
            watch.look(partition)
        witness = watch.witness(partition)
        if witness is not None:
            self._asking = asyncio.create_task(ask(witness, self._plan.events, self._options))
            self._asking.add_done_callback(lambda _: self._wake())
            return False
        return until is not None or watch.has_alerts(partition)

    def drop(self) -> None:
        """Forget everything: the partition is recovered, or another worker's."""
        self._looked_ms = 0
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        self._plan.step.close(self._partition)
