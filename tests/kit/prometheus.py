"""A real Prometheus that scrapes what a test serves, asked through its API."""

from __future__ import annotations

import asyncio
import json
import math
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from mailstream.ports import free_port
from tests.kit.http_server import serving
from tests.kit.processes import START_S, Program, fetch, wait_until
from tests.kit.programs import program

EVERY = "500ms"

Pages = Mapping[str, Callable[[], str]]
"""What each job shows when it is scraped."""


class Prometheus:
    """One running Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an API call.

        Raises:
            ValueError: Prometheus refuses it, and says why.
        """
        query = urllib.parse.urlencode(parameters)
        answer = fetch(f"{self._url}/api/v1/{path}?{query}")
        if answer is None:
            raise ValueError("Prometheus does not answer")
        found = json.loads(answer[1])
        if found["status"] != "success":
            raise ValueError(f"{found['error']}: {parameters}")
        return found["data"]

    def values(self, expr: str) -> list[float]:
        """Return the numbers that *expr* has now, without those that are none (NaN)."""
        data = self.ask("query", query=expr)
        found = data["result"] if data["resultType"] == "vector" else [{"value": data["result"]}]
        values = [float(one["value"][1]) for one in found]
        return [value for value in values if not math.isnan(value)]

    def labels(self, query: str) -> list[str]:
        """Return what a dashboard's ``label_values(METRIC, LABEL)`` finds."""
        metric, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        found = self.ask(f"label/{label}/values", **{"match[]": metric})
        return [str(value) for value in found]


@contextmanager
def scraping(pages: Pages, folder: Path, rules: Path | None = None) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes *pages*, every job's twice or more before the block begins."""
    app = web.Application()
    for job, page in pages.items():
        app.router.add_get(f"/{job}", _showing(page))
    with serving(app) as server:
        target = server.url.removeprefix("http://")
        jobs = [
            {"job_name": job, "metrics_path": f"/{job}", "static_configs": [{"targets": [target]}]}
            for job in pages
        ]
        timing = {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
        written = {
            "global": timing,
            "scrape_configs": jobs,
            "rule_files": [str(rules / "*.yml")] if rules is not None else [],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(written))
        with _running(folder) as found:
            wait_until(
                lambda: len(found.values("count_over_time(up[1h]) > 3")) == len(pages),
                "every page is scraped",
                within_s=START_S,
            )
            assert found.values("up") == [1.0] * len(pages)
            yield found


@contextmanager
def _running(folder: Path) -> Iterator[Prometheus]:
    port = free_port("127.0.0.1")
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = Program("prometheus", command, folder)
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.running, process.said()
        answer = fetch(f"{url}/-/ready")
        return answer is not None and answer[0] == 200

    process.start()
    try:
        wait_until(ready, "Prometheus is ready", within_s=START_S)
        yield Prometheus(url)
    finally:
        process.end()


def _showing(page: Callable[[], str]) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        text = await asyncio.to_thread(page)
        return web.Response(text=text, content_type="text/plain")

    return answer
