"""Events that keep flowing onto the raw topics while a test breaks things."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from tests.kit.oracle import MINUTE
from tests.kit.processes import wait_until
from tests.kit.raw_log import RawRecord, RawWriter, raw_record
from tests.kit.stand import Stand, now_ms
from tests.kit.traffic import Event, Shape, Varied

TICK_S = 0.1
REPEATS = 0.1
INBOUND = 0.3
STALL_S = 60.0


class Flow:
    """Writes events of both sources at a steady rate, one in ten of them once more later."""

    def __init__(self, stand: Stand, *, rate: int, seed: int) -> None:
        self.written = 0
        self._stand, self._rate = stand, rate
        self._rnd = random.Random(seed)
        self._traffic = Varied(
            seed=seed, now_ms=now_ms(), spread_ms=20 * MINUTE, shape=Shape(users=500, ips=20)
        )
        self._recent: deque[tuple[Event, str]] = deque(maxlen=5000)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow")
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def let_pass(self, seconds: float) -> None:
        """Return after as many events as flow in *seconds*: only time in which they flow counts."""
        target = self.written + seconds * self._rate

        def passed() -> bool:
            if not self._thread.is_alive():
                self.stop()
            return self.written >= target

        wait_until(passed, f"{seconds} s of events", within_s=seconds + STALL_S)

    def stop(self) -> int:
        """Stop writing, wait until all is in Kafka, and return how many records there are.

        Raises:
            RuntimeError: Some could not be written.
        """
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise RuntimeError("the flow ended early") from self._failure
        return self.written

    def _run(self) -> None:
        try:
            asyncio.run(self._write())
        except Exception as exc:  # noqa: BLE001  it is raised again by stop()
            self._failure = exc

    async def _write(self) -> None:
        stand = self._stand
        zonemta, haraka = (
            RawWriter(stand.bootstrap, topic, stand.partitions) for topic in stand.raw
        )
        async with zonemta, haraka:
            due = time.monotonic()
            while not self._stopping.is_set():
                due += TICK_S
                outbound, inbound = self._tick(int(self._rate * TICK_S))
                self.written += sum(
                    await asyncio.gather(zonemta.write(outbound), haraka.write(inbound))
                )
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _tick(self, count: int) -> tuple[list[RawRecord], list[RawRecord]]:
        now = self._traffic.now_ms = now_ms()
        records: dict[str, list[RawRecord]] = {"zonemta": [], "haraka": []}
        for _ in range(count):
            event, source = self._next()
            records[source].append(raw_record(event, source, now))
        return records["zonemta"], records["haraka"]

    def _next(self) -> tuple[Event, str]:
        rnd = self._rnd
        if self._recent and rnd.random() < REPEATS:
            return rnd.choice(self._recent)
        inbound = rnd.random() < INBOUND
        event = self._traffic.haraka() if inbound else self._traffic.zonemta()
        event.setdefault("event_id", f"{event['queue_id']}.{event['seq']}")
        made = event, "haraka" if inbound else "zonemta"
        self._recent.append(made)
        return made


@contextmanager
def flow(stand: Stand, *, rate: int = 1000, seed: int) -> Iterator[Flow]:
    """Let events flow while the block runs; after it all of them are on the raw topics."""
    made = Flow(stand, rate=rate, seed=seed)
    made.start()
    try:
        yield made
    finally:
        made.stop()
