"""The worker's HTTP service: metrics, health, readiness, and where the other workers are."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from prometheus_client.exposition import gzip_accepted

from pipeline.core.engine_stats import EngineStats
from pipeline.export.page import Exporter
from pipeline.kit.clock import Clock
from pipeline.kit.listen import Guard, Site, middlewares, server_tls, start_site
from pipeline.kit.service import announced
from pipeline.kit.settings import Settings
from pipeline.kit.values import Address

_WORKER: Final = "worker-"
_TICK_S: Final = 1.0
_GZIP_LEVEL: Final = 1
"""A page of 20,000 series shrinks 15 times at level 1 and takes five times as long at 9."""


class WorkerHttp:
    """The routes of one worker."""

    def __init__(
        self, settings: Settings, exporter: Exporter, stats: EngineStats, clock: Clock
    ) -> None:
        """Show *exporter*'s page and what *stats* says of the partitions."""
        self._settings = settings
        self._exporter = exporter
        self._stats = stats
        self._clock = clock

    def application(self, guard: Guard) -> web.Application:
        """Return the application, which also lets the exporter tick while it runs."""
        app = web.Application(middlewares=middlewares(guard))
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/health", self.health)
        app.router.add_get("/ready", self.ready)
        app.router.add_get("/workers", self.workers)
        app.cleanup_ctx.append(self._ticking)
        return app

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer a scrape, in the format and the encoding that it asks for.

        Parameters ``name[]`` choose metrics, as with other exporters.
        """
        names = frozenset(request.query.getall("name[]", ()))
        page = await self._exporter.page(request.headers.get(hdrs.ACCEPT, ""), names)
        headers = {hdrs.CONTENT_TYPE: page.content_type, hdrs.VARY: "Accept, Accept-Encoding"}
        body = page.body
        if gzip_accepted(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL)
        return web.Response(body=body, headers=headers)

    async def health(self, _request: web.Request) -> web.Response:
        """Answer that the process is alive, and 503 if a partition stopped for good."""
        freshness, now_ms = self._exporter.freshness, self._clock.now_ms()
        stopped = freshness.stopped()
        details: dict[str, Any] = {
            "status": "stopped" if stopped else "ok",
            "windows_complete": freshness.is_complete(now_ms),
            "delay_seconds": freshness.delay_ms(now_ms) / 1000,
            "last_heartbeat_ms": self._stats.last_heartbeat_ms,
            "partitions": [
                {
                    "topic": tp.topic,
                    "partition": tp.partition,
                    "ready": held.ready,
                    "position": held.position,
                    "lag": max(0, held.high_watermark - held.position),
                    "stopped": held.stopped,
                }
                for tp, held in sorted(self._stats.partitions.items())
            ],
        }
        if stopped:
            details |= {"error": "stopped", "detail": "A partition stopped and needs an operator."}
        return _json(details, 503 if stopped else 200)

    async def ready(self, _request: web.Request) -> web.Response:
        """Answer 503 until every assigned partition is open and folded."""
        reasons = self._exporter.freshness.waiting(self._clock.now_ms())
        if reasons:
            return _json({"ready": False, "error": "not_ready", "detail": reasons}, 503)
        return _json({"ready": True})

    async def workers(self, _request: web.Request) -> web.Response:
        """Answer the workers of this machine, as Prometheus's HTTP service discovery reads them."""
        found = await asyncio.to_thread(announced, self._settings.data_dir)
        targets = [
            str(service.address) for name, service in found.items() if name.startswith(_WORKER)
        ]
        return _json([{"targets": targets, "labels": {}}] if targets else [])

    async def _ticking(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._tick(), name="exporter tick")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _tick(self) -> None:
        while True:
            self._exporter.tick()
            await self._clock.sleep(_TICK_S)


async def serve_http(
    settings: Settings,
    exporter: Exporter,
    stats: EngineStats,
    clock: Clock,
    listen: Address | None = None,
) -> Site:
    """Serve the worker's routes at *listen*, else at ``metrics.listen``.

    The caller announces the bound address and stops the site.

    Raises:
        ConfigError: Others could reach the address, and nothing protects it; or TLS is unusable.
        MailstreamError: The address cannot be bound.
    """
    metrics = settings.metrics
    address = listen or metrics.listen
    guard = Guard(address, metrics.allow, metrics.username, metrics.password)
    guard.require_protection()
    tls = server_tls(metrics.tls_cert, metrics.tls_key)
    app = WorkerHttp(settings, exporter, stats, clock).application(guard)
    return await start_site(app, address, tls)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
