"""The depth of a queue: what a ZoneMTA answers, and what is no answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from mailstream.ports import free_port
from pipeline.core.errors import TransientError
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.queue import COUNTERS, Queue, api_of, queue_depth
from tests.kit.clock import FakeClock
from tests.kit.http_server import serving
from tests.kit.probe_rounds import tree, written

NAME = "mail_e2e_exporter_queue_depth"
ANSWER = {
    "active": {"entries": [{"key": "default", "value": 3}, {"key": "bulk", "value": 4}]},
    "deferred": {"entries": [{"key": "default", "value": 5}]},
}


async def depth_at(url: str) -> dict[str, int]:
    api = api_of(url)
    try:
        return await queue_depth(api)
    finally:
        await api.close()


def test_the_queue_of_a_zonemta_is_shown_by_type_and_absent_when_unknown() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(ANSWER)

    app = web.Application()
    app.router.add_get(COUNTERS, answer)
    with serving(app) as server:
        depth = asyncio.run(depth_at(server.url))
    registry = CollectorRegistry()
    metrics = ProbeMetrics(registry, "mail_e2e_exporter_")
    metrics.queue(depth)
    shown = {kind: registry.get_sample_value(NAME, {"type": kind}) for kind in depth}
    assert shown == {"active": 7, "deferred": 5}
    metrics.queue(None)
    assert registry.get_sample_value(NAME, {"type": "active"}) is None


def test_one_connection_is_kept_until_the_file_names_another_url(tmp_path: Path) -> None:
    peers = []

    async def answer(request: web.Request) -> web.Response:
        peers.append(request.transport.get_extra_info("peername") if request.transport else None)
        return web.json_response(ANSWER)

    app = web.Application()
    app.router.add_get(COUNTERS, answer)
    app.router.add_get(f"/mta2{COUNTERS}", answer)

    async def scene(*urls: str | None) -> list[dict[str, int] | None]:
        path = tmp_path / "config.yaml"
        config = written(path, tree(1))
        queue = Queue(lambda: config, ProbeMetrics(CollectorRegistry(), ""), FakeClock())
        found = []
        for url in urls:
            config = written(path, tree(1, queue_url=url) if url else tree(1))
            found.append(await queue._depth())
        await queue.stop()
        return found

    depth = {"active": 7, "deferred": 5}
    with serving(app) as server:
        other = f"{server.url}/mta2"
        found = asyncio.run(scene(server.url, server.url, None, server.url, other, other))
    assert found == [depth, depth, None, depth, depth, depth]
    first, second, third, fourth, fifth = peers
    assert first == second != third != fourth == fifth


@pytest.mark.parametrize("body", ["", "[]", '{"active": 1}', "x" * 2_000_000])
def test_another_answer_is_none(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_get(COUNTERS, answer)
    with serving(app) as server, pytest.raises(TransientError, match=COUNTERS):
        asyncio.run(depth_at(server.url))


def test_nobody_there_is_told_without_the_url_s_secrets() -> None:
    url = f"http://user:s3cret@127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(TransientError) as caught:
        asyncio.run(depth_at(url))
    assert "s3cret" not in str(caught.value)
