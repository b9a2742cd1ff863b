"""The view's HTTP service: the API, the page, and its own metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry

from consumers.view.answers import Answers, RefusedError
from consumers.view.history import History
from consumers.view.live import LiveEvents
from consumers.view.messages import Messages
from consumers.view.openapi import described
from consumers.view.parameters import Route, moment_of, routes
from consumers.view.recent import Recent
from pipeline.kit.listen import error_response, metrics_response, same_secret
from pipeline.kit.settings_view import ViewSettings

Values = dict[str, list[str]]
Answer = Callable[[web.Request, Values], Awaitable[web.StreamResponse]]

PAGE: Final = {
    "index.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "panels.js": "text/javascript",
    "chart.js": "text/javascript",
    "vendor/uPlot.iife.min.js": "text/javascript",
    "vendor/uPlot.min.css": "text/css",
    "icon.svg": "image/svg+xml",
}
"""The files of the page, and their types."""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ViewHttp:
    """The routes."""

    def __init__(
        self,
        settings: ViewSettings,
        answers: Answers,
        history: History,
        recent: Recent,
        messages: Messages,
        live: LiveEvents,
        registry: CollectorRegistry,
        waiting: Callable[[], list[str]],
    ) -> None:
        """Serve what *answers* says; *waiting* says why it is not complete."""
        self._settings = settings
        self._answers = answers
        self._history = history
        self._recent = recent
        self._messages = messages
        self._live = live
        self._registry = registry
        self._waiting = waiting
        self._routes = routes(list(answers.windows))

    def add_to(self, app: web.Application) -> None:
        """Add the routes to *app*."""
        app.on_response_prepare.append(_add_headers)
        app.on_shutdown.append(self._end_live)
        for route in self._routes:
            app.router.add_get(route.path, _parsing(route, getattr(self, f"_{route.name}")))
        app.router.add_get("/metrics", self._own_metrics)
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_get("/", _file("index.html"))
        for name in PAGE:
            app.router.add_get(f"/page/{name}", _file(name))

    async def _end_live(self, _app: web.Application) -> None:
        self._live.end()

    async def _metrics(self, _request: web.Request, _values: Values) -> web.Response:
        return _json(self._answers.metrics())

    async def _nodes(self, _request: web.Request, _values: Values) -> web.Response:
        return _json(self._answers.nodes())

    async def _alerts(self, _request: web.Request, _values: Values) -> web.Response:
        return _json(self._answers.alerts())

    async def _top(self, _request: web.Request, values: Values) -> web.Response:
        (dimension,), (window,), (n,) = (values[name] for name in ("dimension", "window", "n"))
        event_type, by = _one(values, "event_type"), _one(values, "by")
        return _json(self._answers.top(dimension, window, event_type, int(n), by))

    async def _series(self, _request: web.Request, values: Values) -> web.Response:
        from_ms, to_ms = (moment_of(name, values[name]) for name in ("from", "to"))
        (dimension,) = values["dimension"]
        key = tuple(values["key"])
        return _json(await self._history.series(dimension, key, from_ms, to_ms))

    async def _destination(self, _request: web.Request, values: Values) -> web.Response:
        (domain,) = values["domain"]
        return _json(self._answers.destination(domain.lower()))

    async def _message(self, request: web.Request, values: Values) -> web.Response:
        key = self._settings.api_key
        if key is None:
            raise RefusedError(
                403, "forbidden", "No messages are looked up: view.api_key is not set."
            )
        if not same_secret(request.headers.get("X-API-Key", ""), key.get_secret_value()):
            raise RefusedError(401, "unauthorized", "Expected the key of the view in X-API-Key.")
        (queue_id,) = values["queue_id"]
        likely = self._recent.node_of(queue_id.partition(".")[0])
        return _json(await self._messages.look_up(queue_id, likely))

    async def _events(self, request: web.Request, values: Values) -> web.StreamResponse:
        return await self._live.stream(request, _one(values, "event_type"))

    async def _health(self, _request: web.Request, _values: Values) -> web.Response:
        waiting = self._waiting()
        status = "unavailable" if waiting else "ok"
        return _json({"status": status, "detail": waiting or None}, 503 if waiting else 200)

    async def _own_metrics(self, request: web.Request) -> web.Response:
        return metrics_response(self._registry, request)

    async def _openapi(self, _request: web.Request) -> web.Response:
        return _json(described(self._routes, version("mailstream")))


def _parsing(
    route: Route, answer: Answer
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return what parses the parameters of *route*, and says why a question has no answer."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            values = route.parsed(list(request.query.items()), request.match_info)
            return await answer(request, values)
        except RefusedError as exc:
            return error_response(exc.status, exc.error, exc.detail)

    return handler


def _one(values: Values, name: str) -> str | None:
    return values[name][0] if values[name] else None


def _json(told: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(told),
        status=status,
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store"},
    )


def _file(name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    body = files("consumers.view").joinpath("page", name).read_bytes()

    async def handler(_request: web.Request) -> web.StreamResponse:
        # A new version's page must not run with an old one's scripts.
        headers = {hdrs.CACHE_CONTROL: "no-cache"}
        return web.Response(body=body, content_type=PAGE[name], charset="utf-8", headers=headers)

    return handler


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
