"""Kafka is away for an hour of full load: what waits stays within its bounds, and all is accounted for."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from pipeline.core.batch import Output, OutRecord
from pipeline.core.errors import Backpressure, TransientError
from pipeline.core.observation import Heartbeat, Observation
from pipeline.kit.telemetry import ComponentMetrics
from producers.appender import Appender
from producers.outbox import Outbox as SpooledOutbox
from producers.sender_numbers import Numbers
from producers.sources.nodes.outbox import Held, Lost, Outbox, Unsent
from producers.spool import Spool
from tests.kit.clock import FakeClock

HOUR_S = 3600
MB = 1 << 20


class Kafka(Appender):
    """An appender whose far side is away until a test says otherwise."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__({}, ["t"], 1, clock, buffer_bytes=MB)
        self.away = True

    async def append(self, outputs: Sequence[Output]) -> None:
        del outputs
        if self.away:
            raise Backpressure("away")


def test_datagrams_fill_the_spool_and_no_memory(tmp_path: Path) -> None:
    clock = FakeClock()
    kafka, spool = Kafka(clock), Spool(tmp_path, MB // 8)
    counted = {"sent": 0, "dropped": 0}

    def count(what: str, number: int) -> None:
        counted[what] += number

    outbox = SpooledOutbox(
        kafka,
        spool,
        "t",
        1,
        clock,
        memory_bytes=MB // 8,
        sent=lambda number: count("sent", number),
        dropped=lambda number: count("dropped", number),
    )
    burst = [OutRecord(b"x" * 500, b"k", [("id", b"1")])] * 20_000  # of a second

    async def scenario() -> None:
        task = asyncio.create_task(outbox.run())
        tracemalloc.start()
        for _second in range(HOUR_S):
            outbox.put(burst)
            await clock.advance(1)
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2 * MB
        assert spool.size <= MB // 8
        assert outbox.held_bytes <= MB // 8
        assert spool.records + counted["dropped"] == HOUR_S * 20_000
        kafka.away = False
        while spool:
            await clock.advance(5)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())
    assert counted["sent"] + counted["dropped"] == HOUR_S * 20_000
    spool.close()


class Nowhere:
    """A sink that takes nothing."""

    async def send(self, batch: Sequence[Held], numbers: Numbers) -> int:
        raise TransientError(f"away with {len(batch)} of {numbers}")

    async def tell(self, heartbeat: Heartbeat) -> None:
        raise TransientError(f"away, {heartbeat.buffered} wait")


def test_observations_push_out_the_oldest_of_a_bounded_number() -> None:
    clock, registry = FakeClock(), CollectorRegistry()
    component = ComponentMetrics(registry, "nodes", (*Lost, *Unsent))
    outbox = Outbox("mta1", Nowhere(), component, registry, clock, most=1000)

    async def scenario() -> None:
        task = asyncio.create_task(outbox.run())
        for second in range(HOUR_S):
            for number in range(10):
                values = {f"v{number}": float(second)}
                outbox.add(Observation(node="mta1", what="system", at=second, values=values))
            await clock.advance(1)
        told = outbox.heartbeat()
        assert outbox.buffered == told.buffered == 1000
        assert told.last_seq == HOUR_S * 10
        assert told.dropped_total == HOUR_S * 10 - 1000
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())
