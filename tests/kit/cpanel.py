"""A poller between a WHM server and a log that are both in memory, with faults at every step."""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry

from pipeline.core.batch import OutRecord, header
from pipeline.core.errors import TransientError
from pipeline.kit.settings_cpanel import CpanelServer, CpanelSettings
from producers.privacy import Privacy
from producers.sources.cpanel.checkpoint import Checkpoint
from producers.sources.cpanel.client import Trouble, WhmError
from producers.sources.cpanel.exporter import Exporter
from producers.sources.cpanel.journal import MARGIN_S, Restored, State
from producers.sources.cpanel.metrics import PollerMetrics
from producers.sources.cpanel.poller import ServerPoller
from producers.sources.cpanel.polling import Clock, oldest_asked_s
from producers.sources.cpanel.seen import SeenIds
from tests.kit.clock import FakeClock
from tests.kit.whm import Whm

TOKEN = "TOKEN1234567890ABCDEF"


class CrashError(BaseException):
    """The process is gone."""


class Faults:
    """When something goes wrong: never, until a test says otherwise."""

    def __init__(self, rate: float = 0.0, seed: int = 0) -> None:
        self.rate = rate
        self._rng = random.Random(seed)

    def happen(self, *kinds: Callable[[], BaseException]) -> None:
        """Raise one of *kinds*, now and then."""
        if self.rate and self._rng.random() < self.rate:
            kind = self._rng.choice(kinds)
            raise kind()


class Written(NamedTuple):
    """One record of the log, as a consumer has it."""

    value: bytes
    headers: Sequence[tuple[str, bytes]]
    timestamp: int

    @property
    def event_id(self) -> str:
        """Return its id."""
        return (header(self.headers, "id") or b"").decode()

    @property
    def row(self) -> dict[str, Any]:
        """Return the row that it holds."""
        row: dict[str, Any] = json.loads(self.value)
        return row


class MemoryLog:
    """What outlives the process: rows and checkpoint, committed together."""

    def __init__(self, faults: Faults) -> None:
        self.records: list[Written] = []
        self.checkpoint: Checkpoint | None = None
        self.is_doubtful = False
        self.commits = self.opens = 0
        self.refusals: list[Exception] = []
        """What the next commits fail with, instead of being made."""
        self._faults = faults

    async def open(self, clock: Clock) -> State:
        """Return what is committed."""
        self.opens += 1
        self._faults.happen(CrashError, _kafka_is_away)
        if self.checkpoint is None:
            return State(None, SeenIds())
        restored = Restored(clock, oldest_asked_s(clock, self.checkpoint), SeenIds())
        since_ms = 1000 * (restored.oldest_s - MARGIN_S)
        first = bisect_left(self.records, since_ms, key=lambda one: one.timestamp)
        for record in self.records[first:]:
            restored.take(record)
        return State(self.checkpoint, restored.seen)

    async def commit(self, records: Sequence[OutRecord], position: Checkpoint, now_ms: int) -> None:
        """Commit; a fault may come before or after."""
        self._faults.happen(CrashError, _kafka_is_away)
        if self.refusals:
            raise self.refusals.pop()
        self.records += [Written(one.value, one.headers, now_ms) for one in records]
        self.checkpoint = position
        self.commits += 1
        self._faults.happen(CrashError, _kafka_is_away)


class DirectServer:
    """A WHM server without a socket."""

    def __init__(self, whm: Whm, faults: Faults) -> None:
        self._whm, self._faults = whm, faults

    async def call(self, function: str, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        """Return its answer."""
        self._faults.happen(CrashError, _timeout)
        texts = {name: str(value) for name, value in parameters.items()}
        with self._whm.call(function, texts):
            reply = self._whm.answer(function, {"api.version": "1", **texts})
        answer: dict[str, Any] = orjson.loads(reply.body)
        if answer["metadata"]["result"] != 1:
            raise WhmError(Trouble.REFUSED, answer["metadata"]["reason"])
        return answer

    async def close(self) -> None:
        """Close nothing."""


class Bench:
    """One server, its log, and the process that polls: made anew after a crash."""

    def __init__(
        self,
        whm: Whm,
        *,
        faults: Faults | None = None,
        privacy: Privacy | None = None,
        **server: Any,
    ) -> None:
        self.whm = whm
        self._privacy = privacy or Privacy(b"key")
        self.faults = faults or Faults()
        self.clock = FakeClock()
        self.log = MemoryLog(self.faults)
        self.settings = CpanelSettings(
            servers=(
                CpanelServer.model_validate(
                    {"name": "web1", "url": "https://web1.example:2087", "token": TOKEN, **server}
                ),
            ),
            logs=True,
        )
        self.restarts = 0
        self.poller = self._start()

    def _start(self) -> ServerPoller:
        self.registry = CollectorRegistry()
        exporter = Exporter(self.settings, self.clock)
        self.registry.register(exporter)
        return ServerPoller(
            self.settings.servers[0],
            DirectServer(self.whm, self.faults),
            self.log,
            self._privacy,
            PollerMetrics(self.registry, ["web1"]),
            exporter,
            self.clock,
            self.settings.max_users,
        )

    async def poll(self) -> bool:
        """Poll once; tell whether it succeeded.  A crash is a new process, which polls next time."""
        try:
            await self.poller.poll()
        except CrashError:
            self.restarts += 1
            self.poller = self._start()
            return False
        except (WhmError, TransientError):
            return False
        return True

    def value(self, name: str, **labels: str) -> float | None:
        """Return one value of ``/metrics``."""
        return self.registry.get_sample_value(name, labels)


def _timeout() -> BaseException:
    return WhmError(Trouble.TIMEOUT)


def _kafka_is_away() -> BaseException:
    return TransientError("Kafka is away")
