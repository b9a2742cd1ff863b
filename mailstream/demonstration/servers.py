"""Simulated servers on loopback that the installation polls: WHM, and the HTTP APIs of ZoneMTA nodes.

Simulated is what the configuration names with plain HTTP on loopback, unless something real listens there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from mailstream.simulation.hosting import HostingPlan, rows
from mailstream.simulation.queue import Queue
from mailstream.simulation.whm import MailLog
from mailstream.simulation.world import NODES
from pipeline.core.errors import MailstreamError
from pipeline.core.pane import MINUTE_MS
from pipeline.kit import listen
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings
from pipeline.kit.settings_cpanel import CpanelServer
from pipeline.kit.values import Address

HISTORY_MS: Final = 5 * MINUTE_MS
"""How far back the log of a WHM server reaches when the show begins."""
HOSTING_SHARE: Final = 0.06
"""Messages of one WHM server, as a share of the events that are posted."""
MOST_PER_S: Final = 20.0
"""Messages of one WHM server: each poll reads its last 10 minutes again."""

_WHM: Final = "/json-api/"


@dataclass(slots=True)
class Simulated:
    """What is simulated, by its name in the configuration."""

    queue: Queue
    """The queue of all ZoneMTA nodes; it heeds what is posted."""
    whm: list[str] = field(default_factory=list)
    zonemta: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Host:
    """What answers at one address."""

    logs: dict[str, MailLog] = field(default_factory=dict)
    """By the authorization that it takes."""
    nodes: dict[str, str] = field(default_factory=dict)
    """Nodes of the simulated world, by the path that their API begins with."""
    whm: list[str] = field(default_factory=list)
    zonemta: list[str] = field(default_factory=list)


@asynccontextmanager
async def simulated_servers(
    settings: Settings, seed: int, rate: float, flood_after_ms: int, clock: Clock
) -> AsyncIterator[Simulated]:
    """Serve what *settings* name, until the context ends.

    Args:
        settings: The configuration of the installation.
        seed: Of the simulation.
        rate: Events that are posted per second, mean over a day.
        flood_after_ms: When accounts are hacked, after now.
        clock: Tells how much of the logs is written.
    """
    plan = HostingPlan(
        seed,
        clock.now_ms() - HISTORY_MS,
        "",
        min(rate * HOSTING_SHARE, MOST_PER_S),
        HISTORY_MS + flood_after_ms,
    )
    simulated = Simulated(Queue())
    async with AsyncExitStack() as held:
        for address, host in _hosts(settings, plan).items():
            app = web.Application()
            app.router.add_get("/{path:.*}", _Answers(host, simulated.queue, clock).answer)
            try:
                site = await listen.start_site(app, address)
            except MailstreamError:  # the real one is there
                continue
            held.push_async_callback(site.stop)
            simulated.whm += host.whm
            simulated.zonemta += host.zonemta
        yield simulated


def _hosts(settings: Settings, plan: HostingPlan) -> Mapping[Address, _Host]:
    """Return what is to be simulated, by address."""
    found: dict[Address, _Host] = {}
    for server in settings.cpanel.servers:
        for address, _ in _place(server.url):
            host = found.setdefault(address, _Host())
            its_plan = HostingPlan(
                plan.seed, plan.start_ms, server.name, plan.rate, plan.hacked_after_ms
            )
            host.logs[_authorization(server)] = MailLog(rows(its_plan))
            host.whm.append(server.name)
    for number, node in enumerate(settings.zonemta.nodes if settings.zonemta else ()):
        for address, path in _place(node.url):
            host = found.setdefault(address, _Host())
            host.nodes[path] = NODES[number % len(NODES)]
            host.zonemta.append(node.name)
    return found


def _place(url: str) -> Iterator[tuple[Address, str]]:
    """Yield address and path of a URL that can be simulated."""
    parts = urlsplit(url)
    if parts.scheme == "http":
        address = Address(parts.hostname or "", parts.port or 80)
        if address.is_loopback:
            yield address, parts.path.rstrip("/")


def _authorization(server: CpanelServer) -> str:
    return f"whm {server.user}:{server.token.get_secret_value()}"


class _Answers:
    """Answers GET requests at one address."""

    def __init__(self, host: _Host, queue: Queue, clock: Clock) -> None:
        self._host = host
        self._queue = queue
        self._clock = clock

    async def answer(self, request: web.Request) -> web.Response:
        path, now_ms = request.path, self._clock.now_ms()
        if path.startswith(_WHM):
            log = self._host.logs.get(request.headers.get(hdrs.AUTHORIZATION, ""))
            if log is None:
                return web.json_response({"cpanelresult": {"error": "Access denied"}}, status=403)
            body = log.answer(path.removeprefix(_WHM), request.query, now_ms)
            return web.Response(body=body, content_type="application/json")
        for prefix, node in self._host.nodes.items():
            if path.startswith(f"{prefix}/"):
                told = self._queue.answer(node, path.removeprefix(prefix))
                if isinstance(told, str):
                    return web.Response(text=told)
                if told is not None:
                    return web.json_response(told)
        raise web.HTTPNotFound
