"""Old mails that are left over in the mailboxes: deleted now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from pipeline.kit.clock import Clock
from pipeline.kit.service import outcome as result_of
from producers.sources.probe.config import ProbeConfig
from producers.sources.probe.legs import Legs
from producers.sources.probe.metrics import ProbeMetrics

log = logging.getLogger(__name__)

SWEEP_S: Final = 3600.0
LEFT_MS: Final = 24 * 3_600_000
"""Mails that are older belong to no round any more."""
_LONGEST_S: Final = 600.0
"""For one mailbox."""


class Sweep:
    """A part of the process: deletes mails of this probe that no round waits for any more."""

    name = "sweep"

    def __init__(
        self, current: Callable[[], ProbeConfig], legs: Legs, metrics: ProbeMetrics, clock: Clock
    ) -> None:
        """Sweep the mailboxes of the file as it is at the time."""
        self._current = current
        self._legs = legs
        self._metrics = metrics
        self._clock = clock

    async def start(self) -> None:
        """Have nothing to begin."""

    async def stop(self) -> None:
        """Have nothing to end."""

    async def run(self) -> None:
        """Sweep now and then until cancelled, one mailbox after the other."""
        while True:
            config = self._current()
            if config.options.delete_testmail_after_verify:
                await self._sweep(config)
            await self._clock.sleep(SWEEP_S)

    async def _sweep(self, config: ProbeConfig) -> None:
        boxes = {route.recipient.name: route.recipient for route in config.routes}
        for box in boxes.values():
            if box.imap is None:
                continue
            before = self._clock.now_ms() - LEFT_MS
            prefix = config.options.subject_prefix
            found = await result_of(
                asyncio.wait_for(self._legs.sweep(box, prefix=prefix, before_ms=before), _LONGEST_S)
            )
            if isinstance(found, Exception):
                log.debug("no sweep", extra={"account": box.name, "error": str(found)})
            else:
                self._metrics.left_over(sum(one.copies for one in found))
