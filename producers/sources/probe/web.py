"""The probe's endpoints: ``/metrics``, ``/health``, ``/info``, ``/errors``, ``/version``, ``/reload``."""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from pipeline.kit import listen
from pipeline.kit.settings import Settings
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.reload import Files

log = logging.getLogger(__name__)

NAME: Final = "probe"
KEY_HEADER: Final = "X-API-Key"
RELOAD: Final = "/reload"
_LINKS: Final = ("metrics", "health", "info", "errors", "version")
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="mailstream", charset="UTF-8"'}


class Web:
    """A part of the process; who may ask for what follows the file as it is at the time."""

    name = "web"

    def __init__(
        self,
        settings: Settings,
        files: Files,
        registry: CollectorRegistry,
        metrics: ProbeMetrics,
        health: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Show *registry*, what *metrics* knows of errors, and *health*."""
        self._settings = settings
        self._files = files
        self._registry = registry
        self._metrics = metrics
        self._health = health
        self._listen = files.current.options.listen(settings.probe.listen)
        self._one_page = asyncio.Lock()
        self._site = listen.AnnouncedSite(settings.data_dir, NAME)

    async def start(self) -> None:
        """Begin to listen, and tell other processes where."""
        probe = self._settings.probe
        guard = listen.Guard(self._listen, probe.allow, bodiless=frozenset({RELOAD}))
        app = web.Application(middlewares=listen.middlewares(guard))
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._tell_metrics)
        app.router.add_get("/health", self._tell_health)
        app.router.add_get("/info", self._info)
        app.router.add_get("/errors", self._errors)
        app.router.add_get("/version", self._version)
        app.router.add_post(RELOAD, self._reload)
        tls = listen.server_tls(probe.tls_cert, probe.tls_key)
        address = await self._site.start(listen.start_site(app, self._listen, tls))
        log.info("metrics are served", extra={"address": str(address)})

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take back the announcement and close the listener."""
        await self._site.stop()

    async def _page(self, _: web.Request) -> web.Response:
        links = " ".join(f'<a href="{name}">{html.escape(name)}</a>' for name in _LINKS)
        page = f"<!doctype html><title>mailstream probe</title><p>mailstream probe: {links}</p>"
        return web.Response(text=page, content_type="text/html")

    async def _tell_metrics(self, request: web.Request) -> web.Response:
        refused = self._without_login(request)
        if refused is not None:
            return refused
        # The page of many routes takes a second to make: in the loop it would add to every phase.
        async with self._one_page:
            return await asyncio.to_thread(listen.metrics_response, self._registry, request)

    async def _tell_health(self, _: web.Request) -> web.Response:
        """Answer 200 as long as routes are tried: a container that probes must not be restarted."""
        return web.json_response(dict(self._health()))

    async def _info(self, _: web.Request) -> web.Response:
        config = self._files.current
        tests = [
            dict(zip(("name", "from", "to"), route.labels, strict=True)) for route in config.routes
        ]
        return web.json_response(
            {
                "path": str(config.path),
                "mtime_ns": config.mtime_ns,
                "size": config.size,
                "tests": tests,
                "in_use": not self._files.broken,
            }
        )

    async def _errors(self, request: web.Request) -> web.Response:
        """Tell the texts of errors: to who has the key, else to who may read the metrics."""
        refused = (
            self._without_key(request)
            if self._files.current.access.api_key
            else self._without_login(request)
        )
        return refused or web.json_response(
            {"errors": self._metrics.errors(), "file": list(self._files.broken)}
        )

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"name": "mailstream probe", "version": version("mailstream")})

    async def _reload(self, request: web.Request) -> web.Response:
        if self._files.current.access.api_key is None:
            return listen.error_response(403, "forbidden", "No API_KEY is configured.")
        refused = self._without_key(request)
        if refused is not None:
            return refused
        mistakes = await self._files.reload()
        if mistakes:
            detail = "The file cannot be used; the old one stays in use. " + " ".join(mistakes)
            return listen.error_response(400, "unusable_file", detail)
        routes = len(self._files.current.routes)
        return web.json_response({"status": "reloaded", "tests": routes})

    def _without_login(self, request: web.Request) -> web.Response | None:
        access, shared = self._files.current.access, self._settings.metrics
        name, password = access.metrics_user, access.metrics_pass
        if name is None and shared.password is not None:
            name, password = shared.username, shared.password.get_secret_value()
        if name is None or password is None:
            return None
        guard = listen.Guard(self._listen, username=name, password=SecretStr(password))
        if listen.is_authorized(guard, request.headers.get(hdrs.AUTHORIZATION, "")):
            return None
        return listen.error_response(401, "unauthorized", "Expected basic auth.", _CHALLENGE)

    def _without_key(self, request: web.Request) -> web.Response | None:
        expected = self._files.current.access.api_key or ""
        if listen.same_secret(request.headers.get(KEY_HEADER, ""), expected) and expected:
            return None
        return listen.error_response(401, "unauthorized", f"Expected {KEY_HEADER}.")
