"""Observations on their way to Kafka or to an ingest service, numbered, bounded, oldest given up first."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version
from typing import Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Gauge

from pipeline.core.errors import TransientError
from pipeline.core.observation import Heartbeat, Observation, encode
from pipeline.kit.clock import Clock
from pipeline.kit.retry import Backoff
from pipeline.kit.telemetry import ComponentMetrics, Stage
from producers.sender_numbers import Numbers

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 15.0
_AGAIN_S: Final = 2.0
"""After a heartbeat that was not taken."""
ROLE: Final = "agent"
BATCH: Final = 200
BATCH_BYTES: Final = 2 << 20
BUFFER_BYTES: Final = 64 << 20
_LAST_S: Final = 5.0
"""How long a stop waits for what is held."""
_BACKOFF: Final = Backoff(base_s=0.5, cap_s=10.0, deadline_s=None)


class Lost(StrEnum):
    """Why an observation is given up."""

    OVERFLOW = "overflow"
    """The buffer is full because nobody takes them."""
    REFUSED = "refused"
    """The ingest service says that it is unusable."""


class Unsent(StrEnum):
    """Why observations must wait."""

    UNAVAILABLE = "unavailable"


class Held(NamedTuple):
    """One observation that waits."""

    seq: int
    node: str
    value: bytes
    """As JSON."""


class RefusedError(Exception):
    """The far side will never take these observations."""


class TooManyError(Exception):
    """The far side wants fewer at once."""


class Sink(Protocol):
    """Where observations go."""

    async def send(self, batch: Sequence[Held], numbers: Numbers) -> int:
        """Return how many were refused, once all others are in Kafka.

        Raises TransientError, RefusedError or TooManyError.
        """

    async def tell(self, heartbeat: Heartbeat) -> None:
        """Say how the agent is; raises as :meth:`send`."""


class Outbox:
    """The part of the agent that sends."""

    name = "outbox"

    def __init__(
        self,
        node: str,
        sink: Sink,
        component: ComponentMetrics,
        registry: CollectorRegistry,
        clock: Clock,
        *,
        most: int,
    ) -> None:
        """Send to *sink* as *node*, holding *most* observations while it is away."""
        self._node = node
        self._sink = sink
        self._component = component
        self._clock = clock
        self._most = most
        self._boot_id = uuid.uuid4().hex
        self._last_seq = 0
        self._dropped = 0
        self._waiting: deque[Held] = deque()
        self._bytes = 0
        self._batch: Sequence[Held] = ()
        self._batch_most = BATCH
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy
        self.trouble: str | None = None
        """Why observations do not get through, or None if they do."""
        Gauge(
            "mailstream_nodes_buffered_observations",
            "Observations that wait for Kafka or the ingest service.",
            registry=registry,
        ).set_function(lambda: self.buffered)

    @property
    def buffered(self) -> int:
        """Return how many observations wait or are on their way."""
        return len(self._waiting) + len(self._batch)

    def add(self, observation: Observation) -> None:
        """Send *observation* soon; the oldest that waits is given up if there are too many."""
        self._component.received()
        self._last_seq += 1
        held = Held(self._last_seq, observation.node, encode(observation))
        self._waiting.append(held)
        self._bytes += len(held.value)
        while self._waiting and (self.buffered > self._most or self._bytes > BUFFER_BYTES):
            self._bytes -= len(self._waiting.popleft().value)
            self._give_up(Lost.OVERFLOW, 1)
        self._filled.set()
        self._empty.clear()

    async def start(self) -> None:
        """Begin nothing: sending is work."""

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_telling())
            await self._keep_sending()

    async def stop(self) -> None:
        """Send what is held, for a moment; what was on its way may be sent twice."""
        tasks = [asyncio.create_task(self._keep_sending()), asyncio.create_task(self._empty.wait())]
        await asyncio.wait(tasks, timeout=_LAST_S, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def heartbeat(self) -> Heartbeat:
        """Return what the agent says about itself."""
        return Heartbeat(
            node=self._node,
            role=ROLE,
            version=version("mailstream"),
            boot_id=self._boot_id,
            last_seq=self._last_seq,
            buffered=self.buffered,
            dropped_total=self._dropped,
        )

    async def _keep_telling(self) -> None:
        failures = 0
        while True:
            try:
                await self._sink.tell(self.heartbeat())
                failures = 0
            except (TransientError, RefusedError, TooManyError) as exc:
                self._component.failed(Unsent.UNAVAILABLE, Stage.SENDING)
                _tell("a heartbeat was not taken", exc, failures)
                failures += 1
            await self._clock.sleep(_AGAIN_S if failures else HEARTBEAT_S)

    async def _keep_sending(self) -> None:
        attempt = 0
        while True:
            if not self._batch:
                await self._filled.wait()
                self._batch = self._next_batch()
                continue
            try:
                await self._send()
                self.trouble, attempt = None, 0
            except TransientError as exc:
                self.trouble = str(exc)
                self._component.failed(Unsent.UNAVAILABLE, Stage.SENDING)
                _tell("observations are not taken", exc, attempt)
                wait_s = max(_BACKOFF.wait_s(attempt, self._random), exc.retry_after_s or 0.0)
                await self._clock.sleep(wait_s)
                attempt += 1

    def _next_batch(self) -> Sequence[Held]:
        batch: list[Held] = []
        size = 0
        while self._waiting and len(batch) < self._batch_most and size < BATCH_BYTES:
            if batch and self._waiting[0].seq != batch[-1].seq + 1:
                break  # some were given up in between, and the numbers of a post have no gap
            batch.append(self._waiting.popleft())
            size += len(batch[-1].value)
        if not self._waiting:
            self._filled.clear()
        return batch

    async def _send(self) -> None:
        batch = self._batch
        try:
            numbers = Numbers(self._boot_id, batch[0].seq, batch[-1].seq)
            refused = await self._sink.send(batch, numbers)
        except TooManyError as exc:
            if len(batch) > 1:
                self._batch_most = max(1, len(batch) // 2)
                self._batch = batch[: self._batch_most]
                self._waiting.extendleft(reversed(batch[self._batch_most :]))
                self._filled.set()
                return
            self._refused(len(batch), str(exc))
            refused = len(batch)
        except RefusedError as exc:
            self._refused(len(batch), str(exc))
            refused = len(batch)
        else:
            self._component.discarded(Lost.REFUSED, refused)
        self._component.sent(len(batch) - refused)
        self._bytes -= sum(len(one.value) for one in batch)
        self._batch = ()
        if not self._waiting:
            self._empty.set()

    def _refused(self, count: int, why: str) -> None:
        log.error("observations were refused for good", extra={"count": count, "error": why})
        self._give_up(Lost.REFUSED, count)

    def _give_up(self, why: Lost, count: int) -> None:
        self._component.discarded(why, count)
        self._dropped += count


def _tell(what: str, error: Exception, before: int) -> None:
    """Log a failure; the first of a row only tells that a connection is not there yet."""
    level = logging.WARNING if before else logging.INFO
    log.log(level, what, extra={"error": str(error)})
