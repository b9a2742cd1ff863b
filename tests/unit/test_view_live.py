"""Live events: bounded for every reader, and ended with the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web

from consumers.view import live as streams
from consumers.view.alerts import Alerts
from consumers.view.answers import RefusedError
from consumers.view.live import MOST, LiveEvents
from consumers.view.recent import MAX_LIVE, Recent
from pipeline.core.event import MailEvent
from pipeline.kit.clock import SystemClock
from pipeline.kit.listen import start_site
from pipeline.kit.values import Address


@asynccontextmanager
async def served(recent: Recent) -> AsyncIterator[tuple[LiveEvents, httpx.AsyncClient]]:
    live = LiveEvents(recent, Alerts(), SystemClock())

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await live.stream(request, request.query.get("event_type"))
        except RefusedError as exc:
            return web.Response(status=exc.status)

    async def end(_app: web.Application) -> None:
        live.end()

    app = web.Application()
    app.router.add_get("/", answer)
    app.on_shutdown.append(end)
    site = await start_site(app, Address("127.0.0.1", 0))
    try:
        async with httpx.AsyncClient(base_url=f"http://{site.address}", timeout=30) as client:
            yield live, client
    finally:
        await site.stop()


async def told(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def filled(events: int) -> Recent:
    recent = Recent()
    for number in range(events):
        recent.take(MailEvent(event_type="sent" if number % 2 else "bounced"))
    return recent


def test_a_reader_gets_the_newest_events_and_what_is_left_out_is_counted() -> None:
    async def read() -> tuple[dict[str, Any], dict[str, Any]]:
        recent = filled(2 * MAX_LIVE)
        async with served(recent) as (_, client), client.stream("GET", "/") as answer:
            messages = told(answer)
            first = await anext(messages)
            for _ in range(3 * MAX_LIVE):
                recent.take(MailEvent(event_type="sent"))
            return first, await anext(messages)

    first, second = asyncio.run(read())
    assert [one["number"] for one in first["events"]] == list(
        range(2 * MAX_LIVE - MOST + 1, 2 * MAX_LIVE + 1)
    )
    assert first["left_out"] == MAX_LIVE - MOST
    assert len(second["events"]) == MOST
    assert second["left_out"] == 3 * MAX_LIVE - MOST
    assert second["events"][-1]["number"] == 5 * MAX_LIVE


def test_readers_are_limited_and_the_end_of_the_service_ends_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MAX_READERS", 1)

    async def read() -> None:
        async with served(filled(3)) as (live, client):
            async with client.stream("GET", "/", params={"event_type": "sent"}) as answer:
                messages = told(answer)
                first = await anext(messages)
                assert [one["number"] for one in first["events"]] == [2]
                assert (await client.get("/")).status_code == 503
                live.end()
                async for _ in messages:
                    pass
            assert live.readers == 0

    asyncio.run(read())
