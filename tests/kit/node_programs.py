"""Stand-ins for the HTTP APIs of ZoneMTA and WildDuck: they answer as the recorded programs did."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

SAMPLES = Path(__file__).parents[1] / "samples" / "nodes"


def sample(name: str) -> Any:
    """Return a recorded answer, decoded if it is JSON."""
    text = (SAMPLES / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


class ZonemtaApi:
    """The APIs of any number of nodes, each under a path of its own: ``/<node>/counter/zone/``."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = sample("zonemta_api.json")
        self.metrics: str | None = sample("zonemta_metrics.txt")
        self.broken: set[str] = set()
        """Nodes that answer every request with 500."""
        self.asked: Counter[tuple[str, str]] = Counter()
        """Requests by node and path."""
        self.methods: set[str] = set()

    def app(self) -> web.Application:
        """Return what answers."""
        app = web.Application()
        app.router.add_route("*", "/{node}/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        node, path = request.match_info["node"], f"/{request.match_info['path']}"
        self.asked[node, path] += 1
        self.methods.add(request.method)
        if node in self.broken:
            return web.Response(status=500)
        if path == "/metrics" and self.metrics is not None:
            return web.Response(text=self.metrics)
        if path.startswith("/queued/"):
            return self._listing(request, path)
        if path in self.answers:
            return web.json_response(self.answers[path])
        if path.startswith("/skipdomains/"):
            return web.json_response({"skipDomains": ["example.net"]})
        return web.json_response({"error": "not found"}, status=404)

    def _listing(self, request: web.Request, path: str) -> web.Response:
        listing = self.answers.get(path, {"list": []})
        newest_first = request.query.get("order") == "desc"
        found = sorted(listing["list"], key=lambda one: str(one["created"]), reverse=newest_first)
        size = min(1000, int(request.query.get("pageSize", "1000")))
        return web.json_response({**listing, "list": found[:size]})


class WildduckApi:
    """The API of one WildDuck, with as many users as wanted."""

    def __init__(self, token: str | None = None, users: int = 2) -> None:
        self._samples = sample("wildduck.json")
        recorded = self._samples["users"]
        self.users = [recorded[number % len(recorded)] for number in range(users)]
        self.token = token
        self.healthy = True
        self.metrics: str | None = None
        self.refused_cursors: set[str] = set()
        self.asked: Counter[str] = Counter()

    def app(self) -> web.Application:
        """Return what answers."""
        app = web.Application()
        app.router.add_get("/users", self._users)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _users(self, request: web.Request) -> web.Response:
        self.asked["/users"] += 1
        if self.token is not None and request.headers.get("X-Access-Token") != self.token:
            return web.json_response(self._samples["forbidden"], status=403)
        if request.query.get("next") in self.refused_cursors:
            return web.json_response({"code": "InputValidationError"}, status=400)
        first = int(request.query.get("next", "0"))
        after = first + min(250, int(request.query.get("limit", "20")))
        return web.json_response(
            {
                "success": True,
                "total": len(self.users),
                "page": 1,
                "previousCursor": False,
                "nextCursor": str(after) if after < len(self.users) else False,
                "results": self.users[first:after],
            }
        )

    async def _health(self, _: web.Request) -> web.Response:
        if self.healthy:
            return web.json_response(self._samples["health"])
        return web.json_response({"message": "Database is down"}, status=500)

    async def _metrics(self, _: web.Request) -> web.Response:
        if self.metrics is None:
            return web.json_response({"error": "not found"}, status=404)
        return web.Response(text=self.metrics)
