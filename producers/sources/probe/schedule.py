"""Every route at its own pace: rounds side by side, none behind another's hung server.

A route is one task.  Its rounds begin at fixed times, an interval apart, spread over the interval so
that routes do not all begin at once; a round that takes longer than that skips beginnings, never
runs beside its own successor.  A reload ends no round: a route that is gone ends after the round
that is under way, a route that changed takes the new settings at its next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.kit.service import outcome as outcome_of
from producers.sources.probe.attempt import Course
from producers.sources.probe.config import Config, Route
from producers.sources.probe.means import LegFailed, Means, one_line
from producers.sources.probe.outcome import Outcome
from producers.sources.probe.round import Past, Round, duplicate_of, earlier_mail

log = logging.getLogger(__name__)

SPREAD_S: Final = 0.1
"""Between the first rounds of two routes, as long as all of them begin within the interval."""


@dataclass(slots=True)
class _Lane:
    """One route that is tried again and again."""

    route: Route
    past: Past = field(default_factory=Past)
    task: asyncio.Task[None] | None = None
    course: Course | None = None
    """Of the leg that is under way."""
    missed: int = 0
    """Beginnings that were skipped, because the round before took too long."""


class Schedule:
    """A part of the process: the routes of the present configuration, and their rounds."""

    name = "routes"

    def __init__(
        self, config: Config, key: bytes, means: Means, emit: Callable[[Outcome], None]
    ) -> None:
        """Try the routes of *config*.

        Args:
            config: The first one; see :meth:`replace`.
            key: Of the tokens.
            means: What all legs share.
            emit: Told every outcome, once.
        """
        self._config, self._key, self._means, self._emit = config, key, means, emit
        self._lanes: dict[str, _Lane] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(config.exporter.max_parallel_routes)
        self._next_send: dict[tuple[str, int], float] = {}
        self._failed: asyncio.Future[None] | None = None
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy
        self.under_way = 0
        """Rounds that run now."""
        self.waiting = 0
        self.faults = 0
        """Rounds that a fault of ours ended."""
        """Rounds that are due and wait for room."""

    @property
    def missed(self) -> Mapping[str, int]:
        """Return how many beginnings each route has skipped."""
        return {name: lane.missed for name, lane in self._lanes.items()}

    async def start(self) -> None:
        """Begin all routes."""
        self._failed = asyncio.get_running_loop().create_future()
        self.replace(self._config)

    async def run(self) -> None:
        """Run until cancelled; only a fault of ours ends it before."""
        assert self._failed is not None
        await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Give up the rounds that are under way: what they sent is found by the next process."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        tasks += self._ending
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def replace(self, config: Config) -> None:
        """Go on with *config*; rounds that are under way are finished as they were begun."""
        if config.exporter.max_parallel_routes != self._config.exporter.max_parallel_routes:
            self._room = asyncio.Semaphore(config.exporter.max_parallel_routes)
        self._config = config
        wanted = {route.name: route for route in config.routes}
        for name in [name for name in self._lanes if name not in wanted]:
            self._end(self._lanes.pop(name))
        begun = 0
        for name, route in wanted.items():
            lane = self._lanes.get(name)
            if lane is not None:
                lane.route = route
                continue
            lane = self._lanes[name] = _Lane(route)
            wait_s = min(begun * SPREAD_S, _share(name) * route.interval_s)
            lane.task = asyncio.create_task(self._go_on(lane, wait_s), name=f"route {name}")
            lane.task.add_done_callback(self._ended)
            begun += 1

    def _end(self, lane: _Lane) -> None:
        task = lane.task
        if task is None:
            return
        if lane.course is None:
            task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _ended(self, task: asyncio.Task[None]) -> None:
        fault = None if task.cancelled() else task.exception()
        if fault is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(fault)

    async def _go_on(self, lane: _Lane, wait_s: float) -> None:
        clock = self._means.clock
        due = clock.monotonic() + wait_s
        while self._is_wanted(lane):
            await clock.sleep(max(0.0, due - clock.monotonic()))
            # Kept through the wait for room and jitter: a reload lets what is due begin.
            await self._round(lane)
            interval_s = lane.route.interval_s
            behind = int(max(0.0, clock.monotonic() - due) // interval_s)
            lane.missed += behind
            due += (behind + 1) * interval_s

    def _is_wanted(self, lane: _Lane) -> bool:
        return self._lanes.get(lane.route.name) is lane

    async def _round(self, lane: _Lane) -> None:
        room = self._room
        self.waiting += 1
        try:
            await room.acquire()
        finally:
            self.waiting -= 1
        try:
            await self._pause_before_sending(lane.route)
            self.under_way += 1
            try:
                await self._one(lane)
            finally:
                self.under_way -= 1
                lane.course = None
        finally:
            room.release()

    async def _one(self, lane: _Lane) -> None:
        config, route = self._config, lane.route
        one = Round(route, config.exporter, self._key, self._means, lane.past)
        lane.course = one.courses.sending
        result = await outcome_of(one.run())
        if isinstance(result, Exception):
            self._note_fault(route, result)
            return
        self._emit(result)
        second = duplicate_of(result)
        if second is not None:
            self._emit(second)
        earlier = await outcome_of(
            earlier_mail(route, config, self._key, self._means, lane.past, one.token)
        )
        if isinstance(earlier, LegFailed):
            text = one_line(earlier.failure.text)
            log.info("no look at earlier mail", extra={"route": route.name, "error": text})
        elif isinstance(earlier, Exception):
            self._note_fault(route, earlier)
        else:
            for found in earlier:
                self._emit(found)

    def _note_fault(self, route: Route, fault: Exception) -> None:
        """Count a fault of ours: it must not end the route, and less so the others."""
        self.faults += 1
        log.error("a round failed by a fault of ours", exc_info=fault, extra={"route": route.name})

    async def _pause_before_sending(self, route: Route) -> None:
        """Wait as ``send_jitter_max_seconds`` and ``min_smtp_interval_seconds`` say."""
        exporter, clock = self._config.exporter, self._means.clock
        wait_s = self._random.uniform(0, exporter.send_jitter_max_seconds)
        smtp = route.sender.smtp
        if exporter.min_smtp_interval_seconds and smtp is not None:
            server, now = (smtp.host, smtp.port), clock.monotonic()
            at = max(now + wait_s, self._next_send.get(server, 0.0))
            self._next_send[server] = at + exporter.min_smtp_interval_seconds
            wait_s = at - now
        if wait_s > 0:
            await clock.sleep(wait_s)


def _share(name: str) -> float:
    """Return a number in [0, 1) that stands for the route, the same after each restart."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) / 2**32
