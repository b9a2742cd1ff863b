"""Two small things beside the rounds: the depth of an MTA's queue, and old mails that are left over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import httpx
import msgspec

from pipeline.core.errors import TransientError
from pipeline.kit.clock import Clock
from pipeline.kit.service import outcome as result_of
from producers.sources.probe.config import ProbeConfig
from producers.sources.probe.legs import Legs
from producers.sources.probe.metrics import ProbeMetrics

log = logging.getLogger(__name__)

COUNTERS: Final = "/counter/zone/"
EVERY_S: Final = 15.0
SWEEP_S: Final = 3600.0
LEFT_MS: Final = 24 * 3_600_000
"""Mails that are older belong to no round any more."""
_TIMEOUT_S: Final = 8.0
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

    async def start(self) -> None:
        """Have nothing to begin."""

    async def stop(self) -> None:
        """Have nothing to end."""

    async def run(self) -> None:
        """Ask again and again until cancelled; what nobody answers is not shown."""
        while True:
            url = self._current().options.queue_url
            depth = None
            if url is not None:
                found = await result_of(queue_depth(url))
                if isinstance(found, Exception):
                    log.warning("the queue is not known", extra={"error": str(found)})
                else:
                    depth = found
            self._metrics.queue(depth)
            await self._clock.sleep(EVERY_S)


async def queue_depth(url: str) -> dict[str, int]:
    """Return the messages in the queue of a ZoneMTA: active and deferred.

    Raises:
        TransientError: Nobody answers, or with something else.
    """
    try:
        async with (
            httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", url + COUNTERS) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise TransientError(f"{COUNTERS} is answered with status {answer.status_code}")
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise TransientError(f"the answer to {COUNTERS} is too large")
        counters = msgspec.json.decode(body, type=_Counters)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise TransientError(f"{COUNTERS}: {type(exc).__name__}") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise TransientError(f"the answer to {COUNTERS} has another form") from exc
    sections = {"active": counters.active, "deferred": counters.deferred}
    return {name: sum(entry.value for entry in one.entries) for name, one in sections.items()}


class Sweep:
    """A part of the process: deletes mails of this probe that no round waits for any more."""

    name = "sweep"

    def __init__(
        self, current: Callable[[], ProbeConfig], legs: Legs, metrics: ProbeMetrics, clock: Clock
    ) -> None:
        """Sweep the mailboxes of the file as it is at the time."""
        self._current = current
        self._legs = legs
        self._metrics = metrics
        self._clock = clock

    async def start(self) -> None:
        """Have nothing to begin."""

    async def stop(self) -> None:
        """Have nothing to end."""

    async def run(self) -> None:
        """Sweep now and then until cancelled, one mailbox after the other."""
        while True:
            config = self._current()
            if config.options.delete_testmail_after_verify:
                await self._sweep(config)
            await self._clock.sleep(SWEEP_S)

    async def _sweep(self, config: ProbeConfig) -> None:
        boxes = {route.recipient.name: route.recipient for route in config.routes}
        for box in boxes.values():
            if box.imap is None:
                continue
            before = self._clock.now_ms() - LEFT_MS
            prefix = config.options.subject_prefix
            found = await result_of(
                asyncio.wait_for(self._legs.sweep(box, prefix=prefix, before_ms=before), 600)
            )
            if isinstance(found, Exception):
                log.debug("no sweep", extra={"account": box.name, "error": str(found)})
            else:
                self._metrics.left_over(sum(one.copies for one in found))
