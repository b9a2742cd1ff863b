"""The depth of an MTA's queue, beside the rounds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from pipeline.kit.clock import Clock
from pipeline.kit.service import outcome as result_of
from producers.http_api import HttpApi, decoded
from producers.sources.probe.config import ProbeConfig
from producers.sources.probe.metrics import ProbeMetrics

log = logging.getLogger(__name__)

COUNTERS: Final = "/counter/zone/"
EVERY_S: Final = 15.0
_MOST_BYTES: Final = 1 << 20


class _Entry(msgspec.Struct):
    value: int


class _Entries(msgspec.Struct):
    entries: list[_Entry]


class _Counters(msgspec.Struct):
    active: _Entries
    deferred: _Entries


class Queue:
    """A part of the process: asks ``exporter.queue_url``, a ZoneMTA API; only GET is ever sent."""

    name = "queue"

    def __init__(
        self, current: Callable[[], ProbeConfig], metrics: ProbeMetrics, clock: Clock
    ) -> None:
        """Ask where the file, as it is at the time, says."""
        self._current = current
        self._metrics = metrics
        self._clock = clock
        self._url: str | None = None
        self._api: HttpApi | None = None
        """Of that URL."""

    async def start(self) -> None:
        """Have nothing to begin."""

    async def stop(self) -> None:
        """Close the connection."""
        await self._turn_to(None)

    async def run(self) -> None:
        """Ask again and again until cancelled; what nobody answers is not shown."""
        while True:
            found = await result_of(self._depth())
            if isinstance(found, Exception):
                log.warning("the queue is not known", extra={"error": str(found)})
                found = None
            self._metrics.queue(found)
            await self._clock.sleep(EVERY_S)

    async def _depth(self) -> dict[str, int] | None:
        await self._turn_to(self._current().options.queue_url)
        return None if self._api is None else await queue_depth(self._api)

    async def _turn_to(self, url: str | None) -> None:
        if url == self._url:
            return
        old, self._url, self._api = self._api, None, None
        if old is not None:
            await old.close()
        if url is not None:
            self._url, self._api = url, api_of(url)


def api_of(url: str) -> HttpApi:
    """Return the API of a ZoneMTA at *url*."""
    return HttpApi(url, most_bytes=_MOST_BYTES)


async def queue_depth(api: HttpApi) -> dict[str, int]:
    """Return the messages in the queue of a ZoneMTA: active and deferred.

    Raises:
        TransientError: Nobody answers, or with something else.
    """
    counters = decoded(await api.get(COUNTERS), _Counters, COUNTERS)
    sections = {"active": counters.active, "deferred": counters.deferred}
    return {name: sum(entry.value for entry in one.entries) for name, one in sections.items()}
