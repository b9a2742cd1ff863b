"""When one partition's anomalies are looked for, and what an alert waits for before it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from pipeline.core.batch import RollupStep
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

    def due(
        self, until: Mapping[int, int] | None, step: RollupStep, now_ms: int, *, caught_up: bool
    ) -> Mapping[int, int] | None:
        """Return ``closed_until`` of what is to be written now, if anything is.

        Alerts cause a transaction of their own.  While events are looked through for their evidence
        nothing is written: a roll-up must not tell that a pane was judged before its alerts are out.

        Args:
            until: Of the roll-up that is due, if one is.
            step: Whose panes are judged.
            now_ms: The wall clock.
            caught_up: Whether nothing of the log waits to be folded.
        """
        watch, partition = self._plan.step, self._partition
        if self._asking is not None:
            if not self._asking.done():
                return None
            self._asking = None
            watch.hear(partition)
        if until is not None:
            watch.judge(partition, until)
        if caught_up and now_ms - self._looked_ms >= LOOK_EVERY_MS:
            self._looked_ms = now_ms
            watch.look(partition)
        if not watch.has_alerts(partition):
            return until
        witness = watch.witness(partition)
        if witness is not None:
            self._asking = asyncio.create_task(ask(witness, self._plan.events, self._options))
            self._asking.add_done_callback(lambda _: self._wake())
            return None
        return step.closed_until(partition) if until is None else until

    def drop(self) -> None:
        """Forget everything: the partition is recovered, or another worker's."""
        self._looked_ms = 0
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        self._plan.step.close(self._partition)
