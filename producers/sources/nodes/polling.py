"""Looking at every target in its own time: one that is dead or slow delays no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

from pipeline.core.errors import MailstreamError
from pipeline.core.observation import Observation
from pipeline.core.timestamp import rfc3339
from pipeline.kit.clock import Clock
from pipeline.kit.service import outcome
from pipeline.kit.telemetry import ComponentMetrics, Stage
from producers.sources.nodes.board import Board, Place
from producers.sources.nodes.outbox import Outbox
from producers.sources.nodes.samples import Sample, values

log = logging.getLogger(__name__)

LONGEST_POLL_S: Final = 30.0
"""A look takes no longer than this, nor than the interval."""
_SPREAD_S: Final = 5.0
"""The first looks are spread over this time, so that many targets do not answer at once."""


class Target(Protocol):
    """Something that is looked at again and again."""

    source: str
    node: str
    interval_ms: int

    async def poll(self, now_ms: int) -> list[Sample]:
        """Return what it is like now; raises TransientError if it does not answer."""

    async def close(self) -> None:
        """Let go of what is held open."""


class Failure(StrEnum):
    """Why a look failed."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BUG = "bug"
    """The collector raised what it should not: a fault of ours."""


class Poller:
    """The part of the agent that looks."""

    name = "poller"

    def __init__(
        self,
        targets: Sequence[Target],
        board: Board,
        outbox: Outbox,
        component: ComponentMetrics,
        clock: Clock,
    ) -> None:
        """Look at *targets*, show what they say on *board*, and give it to *outbox*."""
        self._targets = targets
        self._board = board
        self._outbox = outbox
        self._component = component
        self._clock = clock

    async def start(self) -> None:
        """Begin nothing: looking is work."""

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            for place, target in enumerate(self._targets):
                interval_s = target.interval_ms / 1000
                after_s = min(interval_s, _SPREAD_S) * place / len(self._targets)
                group.create_task(self._keep_looking(target, after_s))
            await asyncio.Event().wait()

    async def stop(self) -> None:
        """Let go of what the targets hold open."""
        for target in self._targets:
            await target.close()

    async def _keep_looking(self, target: Target, after_s: float) -> None:
        interval_s = target.interval_ms / 1000
        due = self._clock.monotonic() + after_s
        while True:
            await self._clock.sleep(max(0.0, due - self._clock.monotonic()))
            await self.look(target)
            late_s = max(0.0, self._clock.monotonic() - due)
            due += interval_s * (late_s // interval_s + 1)  # what was missed is not made up for

    async def look(self, target: Target) -> None:
        """Look at one target once."""
        place = Place(target.source, target.node)
        now_ms, began = self._clock.now_ms(), self._clock.monotonic()
        found = await outcome(_within(target, now_ms))
        took_s = self._clock.monotonic() - began
        if isinstance(found, Exception):
            self._note_failure(place, found, took_s)
            return
        self._board.answered(place, found, took_s, now_ms)
        self._component.succeeded(now_ms)
        numbers = values(found)
        if numbers:
            self._outbox.add(
                Observation(
                    node=target.node, what=target.source, at=rfc3339(now_ms), values=numbers
                )
            )

    def _note_failure(self, place: Place, error: Exception, took_s: float) -> None:
        failure, why = Failure.UNREACHABLE, str(error)
        if isinstance(error, TimeoutError):
            failure, why = Failure.TIMEOUT, "it did not answer in time"
        elif not isinstance(error, MailstreamError):
            failure, why = Failure.BUG, "a fault of ours"
        self._component.failed(failure, Stage.RECEIVING)
        if self._board.failed(place, why, took_s):
            about = {"source": place.source, "origin": place.origin, "error": why}
            if failure is Failure.BUG:
                log.error("a collector failed", exc_info=error, extra=about)
            else:
                log.warning("a target does not answer", extra=about)


async def _within(target: Target, now_ms: int) -> list[Sample]:
    async with asyncio.timeout(min(target.interval_ms / 1000, LONGEST_POLL_S)):
        return await target.poll(now_ms)
