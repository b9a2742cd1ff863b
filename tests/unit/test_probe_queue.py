"""The depth of a queue: what a ZoneMTA answers, and what is no answer."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from mailstream.ports import free_port
from pipeline.core.errors import TransientError
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.queue import COUNTERS, queue_depth
from tests.kit.http_server import serving

NAME = "mail_e2e_exporter_queue_depth"
ANSWER = {
    "active": {"entries": [{"key": "default", "value": 3}, {"key": "bulk", "value": 4}]},
    "deferred": {"entries": [{"key": "default", "value": 5}]},
}


def test_the_queue_of_a_zonemta_is_shown_by_type_and_absent_when_unknown() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(ANSWER)

    app = web.Application()
    app.router.add_get(COUNTERS, answer)
    with serving(app) as server:
        depth = asyncio.run(queue_depth(server.url))
    registry = CollectorRegistry()
    metrics = ProbeMetrics(registry, "mail_e2e_exporter_")
    metrics.queue(depth)
    shown = {kind: registry.get_sample_value(NAME, {"type": kind}) for kind in depth}
    assert shown == {"active": 7, "deferred": 5}
    metrics.queue(None)
    assert registry.get_sample_value(NAME, {"type": "active"}) is None


@pytest.mark.parametrize("body", ["", "[]", '{"active": 1}', "x" * 2_000_000])
def test_another_answer_is_none(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_get(COUNTERS, answer)
    with serving(app) as server, pytest.raises(TransientError, match=COUNTERS):
        asyncio.run(queue_depth(server.url))


def test_nobody_there_is_told_without_the_url_s_secrets() -> None:
    url = f"http://user:s3cret@127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(TransientError) as caught:
        asyncio.run(queue_depth(url))
    assert "s3cret" not in str(caught.value)
