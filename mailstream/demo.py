"""``mailstream demo``: ``run``, and simulated traffic from every source that is on.

Everything takes the way that real traffic takes: hook events are posted, logins sent as datagrams,
and servers that the configuration names on loopback are there to be polled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mailstream.demonstration.datagrams import LoginSender, takes_logins
from mailstream.demonstration.own_config import write_own_config
from mailstream.demonstration.posting import Poster, request_headers
from mailstream.demonstration.servers import Simulated, simulated_servers
from mailstream.demonstration.telling import Times, tell
from mailstream.run import Running, run
from mailstream.simulation.logins import LoginPlan, logins
from mailstream.simulation.traffic import SimulatedEvent, traffic
from pipeline.core.errors import ConfigError
from pipeline.kit.clock import SystemClock
from pipeline.kit.settings import SOURCES, Settings
from pipeline.kit.settings_load import find_config, load

TIMES: Final = Times(attack_ms=30_000, flood_ms=60_000)
LOGIN_SHARE: Final = 0.2
"""Logins, as a share of the events that are posted."""
REAL_PREFIX: Final = "mail."


@dataclass(frozen=True, slots=True)
class Show:
    """What the demo simulates."""

    rate: float = 50.0
    """Posted events per second, mean over a day; all other sources in proportion."""
    seed: int = 1
    duration_s: float = 0.0
    """0: until Ctrl-C."""


async def demo(
    settings: Settings, show: Show, *, config: Path | None = None, workers: int = 1
) -> None:
    """Run everything, and simulate what is on, until SIGINT, SIGTERM or the end of the show.

    Without any configuration file every source is on, and the demo keeps its data apart, in
    ``<data_dir>/demo``.

    Args:
        settings: The configuration.
        show: What to simulate.
        config: As for :func:`mailstream.run.run`.
        workers: How many worker processes share the partitions.

    Raises:
        ConfigError: As ``run``; also if the traffic would go to a real cluster's mail topics, or
            no API key may post for a source.
        MailstreamError: As ``run``; also if ingest refuses the traffic.
    """
    if find_config(config, os.environ) is None:
        config = write_own_config(settings.data_dir / "demo")
        settings = load(config, os.environ)
    if settings.kafka.bootstrap_servers is not None and settings.topics.prefix == REAL_PREFIX:
        mistake = (
            "topics.prefix: simulated events do not belong into the mail topics of a cluster: "
            "set another prefix for the demo, such as demo."
        )
        raise ConfigError([mistake])
    headers = {source: request_headers(settings, source) for source in SOURCES}
    clock = SystemClock()
    async with simulated_servers(
        settings, show.seed, show.rate, TIMES.flood_ms, clock
    ) as simulated:

        async def beside(running: Running) -> None:
            tell(running, simulated, show.seed, show.rate, TIMES)
            poster = Poster(running, headers, clock)
            feeds = [poster.post_all(_events(show, simulated, clock.now_ms()))]
            if takes_logins(settings):
                plan = _login_plan(show, clock.now_ms())
                feeds.append(LoginSender(running, clock).send_all(logins(plan)))
            await _all_of(feeds)
            running.console.say(f"the show is over: {poster.summary()}")

        await run(settings, beside, config=config, workers=workers)


async def _all_of(feeds: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run *feeds* until all have ended, or one has failed: then the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            for feed in feeds:
                group.create_task(feed)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures


def _events(show: Show, simulated: Simulated, start_ms: int) -> Iterator[SimulatedEvent]:
    """Yield what is posted; the queue of the simulated nodes heeds it."""
    for event in traffic(
        show.seed,
        start_ms,
        rate=show.rate,
        duration_ms=int(show.duration_s * 1000),
        flood_after_ms=TIMES.flood_ms,
    ):
        simulated.queue.take(event)
        yield event


def _login_plan(show: Show, start_ms: int) -> LoginPlan:
    return LoginPlan(
        show.seed,
        start_ms,
        show.rate * LOGIN_SHARE,
        int(show.duration_s * 1000),
        attack_after_ms=TIMES.attack_ms,
        found_after_ms=TIMES.flood_ms - 5000,
    )
