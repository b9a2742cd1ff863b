"""Every route on its own schedule, side by side.

A route is one task: it waits until its round is due, then for a place among those that may run at
the same time, and runs one round.  Rounds are due on a grid, so that a slow one shifts none of the
later ones; what was due meanwhile is skipped and counted.  A new version of the file changes what
the next rounds do: a round that goes on is never cancelled by it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.kit.clock import Clock
from producers.sources.probe.config import Options, ProbeConfig, Route
from producers.sources.probe.earlier import Earlier
from producers.sources.probe.legs import Legs
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.outcome import Outcome
from producers.sources.probe.round import Round

log = logging.getLogger(__name__)

_BETWEEN_STARTS_S: Final = 0.12
"""At the start, so that many routes do not begin at once."""
_FINISH_S: Final = 8.0
"""How long rounds that go on may keep a stop waiting."""

Tell = Callable[[Outcome], None]


@dataclass(slots=True)
class _Lane:
    """One route, and where it is in its schedule."""

    route: Route
    earlier: Earlier
    due: float
    """Monotonic seconds."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    removed: bool = False
    busy: bool = False
    task: asyncio.Task[None] | None = None


class Pace:
    """Keeps the sendings of one account apart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: dict[tuple[str, int, str | None], float] = {}

    async def wait(self, route: Route, options: Options) -> None:
        """Wait until the account of *route* may send again, and a little by chance."""
        jitter = random.uniform(0, options.send_jitter_max_seconds)  # noqa: S311  no secrecy needed
        apart, smtp = options.min_smtp_interval_seconds, route.sender.smtp
        wait_s = jitter
        if apart > 0 and smtp is not None:
            key = smtp.host, smtp.port, smtp.username
            now = self._clock.monotonic()
            at = max(self._next.get(key, now), now + jitter)
            self._next[key] = at + apart
            wait_s = at - now
        if wait_s > 0:
            await self._clock.sleep(wait_s)


class _Places:
    """So many rounds at a time; the number may change while some go on."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._used = 0
        self._freed = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._freed:
            await self._freed.wait_for(lambda: self._used < self.most)
            self._used += 1

    async def __aexit__(self, *_: object) -> None:
        self._used -= 1
        async with self._freed:
            self._freed.notify()

    async def resize(self, most: int) -> None:
        async with self._freed:
            self.most = most
            self._freed.notify_all()


class Schedule:
    """A part of the process: the rounds of all routes."""

    name = "rounds"

    def __init__(
        self, config: ProbeConfig, legs: Legs, metrics: ProbeMetrics, clock: Clock, tell: Tell
    ) -> None:
        """Run the routes of *config*.

        Args:
            config: The first version of the file.
            legs: What sends and receives.
            metrics: What shows it.
            clock: The machine's.
            tell: Takes each outcome; must not fail.
        """
        self._config = config
        self._legs = legs
        self._metrics = metrics
        self._clock = clock
        self._tell = tell
        self._pace = Pace(clock)
        self._places = _Places(config.options.max_parallel_routes)
        self._lanes: dict[str, _Lane] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        """Tasks of routes that were taken out, until their last round has ended."""
        self._failed: asyncio.Future[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Begin with the first rounds."""
        self._failed = asyncio.get_running_loop().create_future()
        await self.apply(self._config)

    async def run(self) -> None:
        """Run until cancelled; only a fault of ours ends it before."""
        assert self._failed is not None
        await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """Begin no more rounds, and give those that go on a moment to end."""
        self._stopping = True
        tasks = {lane.task for lane in self._lanes.values() if lane.task} | self._leaving
        for lane in self._lanes.values():
            lane.removed = True
            lane.changed.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_FINISH_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def apply(self, config: ProbeConfig) -> None:
        """Go on by *config*; rounds that go on end as they began, with an outcome."""
        self._config = config
        self._metrics.configure(config)
        await self._places.resize(config.options.max_parallel_routes)
        wanted = {route.name: route for route in config.routes}
        for name in [name for name in self._lanes if name not in wanted]:
            self._leave(self._lanes.pop(name))
        fresh = [route for route in config.routes if route.name not in self._lanes]
        for route in config.routes:
            if route.name in self._lanes:
                self._change(self._lanes[route.name], route)
        self._begin(fresh)

    def _begin(self, routes: Sequence[Route]) -> None:
        now = self._clock.monotonic()
        for number, route in enumerate(routes):
            apart = min(_BETWEEN_STARTS_S, route.interval_s / len(routes))
            lane = _Lane(route, Earlier(self._legs, self._clock), now + number * apart)
            lane.task = asyncio.create_task(self._lane(lane), name=f"route {route.name}")
            lane.task.add_done_callback(self._ended)
            self._lanes[route.name] = lane

    def _change(self, lane: _Lane, route: Route) -> None:
        if route.interval_s != lane.route.interval_s:
            lane.due = min(lane.due, self._clock.monotonic() + route.interval_s)
        lane.route = route
        lane.changed.set()

    def _leave(self, lane: _Lane) -> None:
        lane.removed = True
        lane.changed.set()
        if lane.task is not None:
            self._leaving.add(lane.task)
            lane.task.add_done_callback(self._leaving.discard)

    def _ended(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(failure)

    async def _lane(self, lane: _Lane) -> None:
        while await self._until_due(lane):
            await self._pace.wait(lane.route, self._config.options)
            async with self._places:
                if lane.removed:
                    return
                lane.busy = True
                self._show_running()
                try:
                    await self._round(lane)
                finally:
                    lane.busy = False
                    self._show_running()
            self._next(lane)

    async def _until_due(self, lane: _Lane) -> bool:
        """Wait until the route's round is due; return False once the route is gone."""
        while not lane.removed:
            wait_s = lane.due - self._clock.monotonic()
            if wait_s <= 0:
                return True
            lane.changed.clear()
            sleeping = asyncio.ensure_future(self._clock.sleep(wait_s))
            changing = asyncio.create_task(lane.changed.wait())
            try:
                await asyncio.wait({sleeping, changing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
                changing.cancel()
        return False

    def _next(self, lane: _Lane) -> None:
        now, interval = self._clock.monotonic(), lane.route.interval_s
        lane.due += interval
        missed = int((now - lane.due) // interval) + 1 if lane.due < now else 0
        if missed:
            lane.due += missed * interval
            self._metrics.skipped(lane.route, missed)

    async def _round(self, lane: _Lane) -> None:
        one = Round(lane.route, self._config.options, self._legs, self._clock)
        outcomes = await one.run()
        for outcome in outcomes:
            self._take(lane, outcome)
        # By the route as it was in this round: it may have changed since.
        for outcome in await lane.earlier.look(one.route, one.options, one.token):
            self._take(lane, outcome)
        self._metrics.left_over(lane.earlier.left_over)

    def _take(self, lane: _Lane, outcome: Outcome) -> None:
        lane.earlier.ended(outcome)
        self._tell(outcome)

    def _show_running(self) -> None:
        self._metrics.running(sum(lane.busy for lane in self._lanes.values()))
