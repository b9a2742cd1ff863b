"""``/metrics``, ``/health`` and a page that links to them, of a producer that takes nothing over HTTP."""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from pipeline.kit import listen
from pipeline.kit.disk import DataDisk
from pipeline.kit.settings import Settings
from pipeline.kit.settings_base import Listener

log = logging.getLogger(__name__)

OK: Final = "ok"

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head><title>mailstream {producer}</title></head>
<body>
<h1>mailstream {producer}</h1>
<p><a href="metrics">Metrics</a> and <a href="health">health</a></p>
</body>
</html>
"""


class Monitor:
    """A part of the producer's process; the first to start and the last to stop."""

    name = "monitor"

    def __init__(
        self,
        settings: Settings,
        producer: str,
        listener: Listener,
        registry: CollectorRegistry,
        health: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Show *registry*, the room on disk and *health* at *listener*, and announce it as *producer*.

        Args:
            settings: ``/metrics`` wants the credentials of its section ``metrics``.
            producer: Its name.
            listener: Its section of the configuration.
            registry: What it counts.
            health: Returns the answer; anything but ``{"status": "ok"}`` is a 503.

        Raises:
            ConfigError: Strangers could read it.
        """
        metrics = settings.metrics
        self._guard = listen.Guard(
            listener.listen, listener.allow, metrics.username, metrics.password
        )
        self._guard.require_protection()
        self._producer = producer
        self._listener = listener
        self._registry = registry
        registry.register(DataDisk(settings.data_dir))
        self._health = health
        self._site = listen.AnnouncedSite(settings.data_dir, producer)

    async def start(self) -> None:
        """Begin to listen, and tell other processes where."""
        app = web.Application(middlewares=listen.middlewares(self._guard))
        app.router.add_get("/", self._link)
        app.router.add_get("/metrics", self._tell_metrics)
        app.router.add_get("/health", self._tell_health)
        tls = listen.server_tls(self._listener.tls_cert, self._listener.tls_key)
        address = await self._site.start(listen.start_site(app, self._listener.listen, tls))
        log.info("metrics are served", extra={"address": str(address)})

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take back the announcement and close the listener."""
        await self._site.stop()

    async def _link(self, _: web.Request) -> web.Response:
        page = _PAGE.format(producer=html.escape(self._producer))
        return web.Response(text=page, content_type="text/html")

    async def _tell_health(self, _: web.Request) -> web.Response:
        state = self._health()
        return web.json_response(dict(state), status=200 if state["status"] == OK else 503)

    async def _tell_metrics(self, request: web.Request) -> web.Response:
        return listen.metrics_response(self._registry, request)
