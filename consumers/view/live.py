"""Live events as server-sent events: bounded, whatever comes and however slowly it is read."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import msgspec
import orjson
from aiohttp import hdrs, web

from consumers.view.alerts import Alerts
from consumers.view.answers import RefusedError
from consumers.view.recent import Live, Recent
from pipeline.kit.clock import Clock

EVERY_S: Final = 1.0
MOST: Final = 50
"""Events per second and reader: more are left out and counted."""
MAX_READERS: Final = 200
WRITE_LIMIT_S: Final = 30.0
"""A reader that does not read for so long is gone."""


class LiveEvents:
    """Serves the newest events to any number of readers, without a queue for each."""

    def __init__(self, recent: Recent, alerts: Alerts, clock: Clock) -> None:
        """Show what *recent* holds, and say when *alerts* changed."""
        self._recent = recent
        self._alerts = alerts
        self._clock = clock
        self._boot = secrets.token_hex(4)
        self._stopping = asyncio.Event()
        self.readers = 0

    def end(self) -> None:
        """End every stream, so that the service can stop."""
        self._stopping.set()

    async def stream(self, request: web.Request, event_type: str | None) -> web.StreamResponse:
        """Write events until the reader goes or the service stops.

        Raises:
            RefusedError: There are too many readers.
        """
        if self.readers >= MAX_READERS:
            raise RefusedError(503, "too_many_readers", "Too many read the live events already.")
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
                hdrs.CACHE_CONTROL: "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        self.readers += 1
        try:
            await response.prepare(request)
            await self._write(request, response, event_type)
        except (ConnectionError, TimeoutError):
            pass  # the reader is gone
        finally:
            self.readers -= 1
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, event_type: str | None
    ) -> None:
        place = self._place(request.headers.get("Last-Event-ID", ""))
        changes = 0
        while not self._stopping.is_set():
            newest = self._recent.live(place)
            wanted = [one for one in newest if event_type in (None, one.event.event_type)]
            skipped = (newest[0].number - place - 1) if newest and place else 0
            told = {
                "at": self._clock.now_ms() / 1000,
                "events": [_shown(one) for one in wanted[-MOST:]],
                "left_out": skipped + max(0, len(wanted) - MOST),
            }
            place = newest[-1].number if newest else place
            text = f"id: {self._boot}-{place}\nevent: events\ndata: "
            message = text.encode() + orjson.dumps(told) + b"\n\n"
            if changes != self._alerts.changes:
                changes = self._alerts.changes
                message += f'event: alerts\ndata: {{"changes": {changes}}}\n\n'.encode()
            async with asyncio.timeout(WRITE_LIMIT_S):
                await response.write(message)
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(EVERY_S):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _place(self, last: str) -> int:
        """Return the number of the last event that a reader has seen, if it was one of ours."""
        boot, _, number = last.rpartition("-")
        return int(number) if boot == self._boot and number.isascii() and number.isdigit() else 0


def _shown(one: Live) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(one.event)
    return {"number": one.number, **fields}
