"""Simulated events, posted to ingest in batches as plugins would post them, gzip'd when large.

What is not acknowledged is posted again, as it is, until it is: repeats are recognised by their ids.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable, Mapping
from typing import Any, Final

import httpx
import orjson

from mailstream.run import Running
from mailstream.simulation.traffic import SimulatedEvent
from pipeline.core.errors import ConfigError, MailstreamError
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings

TICK_MS: Final = 250
"""How long a simulated plugin gathers events before it posts them."""
MOST_EVENTS: Final = 2000
"""In one post."""
GZIP_ABOVE_BYTES: Final = 4096
LONGEST_WAIT_S: Final = 10.0

_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same post may succeed."""

Fields = dict[str, Any]


class Poster:
    """Posts events when they are due, and keeps them until they are acknowledged."""

    def __init__(
        self, running: Running, headers: Mapping[str, Mapping[str, str]], clock: Clock
    ) -> None:
        """Post to *running*, with *headers* by source."""
        self._running = running
        self._headers = headers
        self._clock = clock
        self._most = min(MOST_EVENTS, running.settings.ingest.max_batch_events)
        self.accepted = 0
        self.rejected = 0
        self.posted_again = 0
        """Posts that had to be made again."""

    def summary(self) -> str:
        """Return what became of the posted events."""
        again = f", {self.posted_again:,} posts made again" if self.posted_again else ""
        return f"{self.accepted:,} accepted, {self.rejected:,} rejected{again}"

    async def post_all(self, events: Iterable[SimulatedEvent]) -> None:
        """Post *events*, each not before its time.

        Raises:
            MailstreamError: Ingest refuses them.
        """
        due: dict[str, list[Fields]] = {source: [] for source in self._headers}
        begun_ms = newest_ms = self._clock.now_ms()
        for event in events:
            if event.at_ms - begun_ms >= TICK_MS or len(due[event.source]) >= self._most:
                await self._flush(due, newest_ms)
                begun_ms = event.at_ms
            due[event.source].append(event.event)
            newest_ms = event.at_ms
        await self._flush(due, newest_ms)

    async def _flush(self, due: dict[str, list[Fields]], newest_ms: int) -> None:
        await self._clock.sleep(max(0, newest_ms - self._clock.now_ms()) / 1000)
        batches = {source: events[:] for source, events in due.items() if events}
        for events in due.values():
            events.clear()
        await asyncio.gather(*(self._post(source, events) for source, events in batches.items()))
        self._running.note(f"demo: {self.summary()}")

    async def _post(self, source: str, events: list[Fields]) -> None:
        """Post one batch until it is acknowledged."""
        body = orjson.dumps({"events": events})
        headers = dict(self._headers[source])
        if len(body) > GZIP_ABOVE_BYTES:
            body = await asyncio.to_thread(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        failures = 0
        while (answer := await self._try(body, headers)) is None or answer.status_code in _LATER:
            failures += 1
            self.posted_again += 1
            await self._clock.sleep(_wait_s(answer, failures))
        if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE and len(events) > 1:
            half = len(events) // 2
            await self._post(source, events[:half])
            await self._post(source, events[half:])
        elif answer.is_success:
            told = answer.json()
            self.accepted += told["accepted"]
            self.rejected += len(told["rejected"])
        else:
            raise MailstreamError(
                f"ingest refused simulated events: {answer.status_code} {answer.text[:300]}"
            )

    async def _try(self, body: bytes, headers: dict[str, str]) -> httpx.Response | None:
        """Return ingest's answer; None if there was none, while it restarts."""
        url = self._running.ingest_url()
        if url is None:
            return None
        try:
            return await self._running.probe.client.post(
                f"{url}/api/v1/email-events/batch", content=body, headers=headers
            )
        except httpx.TransportError:
            return None


def request_headers(settings: Settings, source: str) -> dict[str, str]:
    """Return the headers of posts for *source*, with the first key that may post for it.

    Raises:
        ConfigError: Keys are needed, and none may.
    """
    headers = {"Content-Type": "application/json", "X-Source": source}
    keys = settings.ingest.api_keys
    if keys:
        fitting = (key for key in keys if source in key.sources)
        key = next(fitting, None)
        if key is None:
            raise ConfigError(
                [f"ingest.api_keys: no key may post for {source}: the demo needs one"]
            )
        headers["X-API-Key"] = key.key.get_secret_value()
    return headers


def _wait_s(answer: httpx.Response | None, failures: int) -> float:
    """Return how long to wait before the next try: as told, else ever longer."""
    told = "" if answer is None else answer.headers.get("Retry-After", "")
    if told.isdecimal():
        return float(told)
    return min(LONGEST_WAIT_S, 0.2 * 2.0 ** min(failures, 10))
