"""What a scrape costs: about 20,000 window series, and a flood of distinct keys.

Prints one JSON line per figure: ``{"bench", "value", "unit", ...}``.  Run it as
``python -m bench.export``.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.batch import TopicPartition
from pipeline.core.delta import VERSION, DeltaFrame, FamilyRows, encode_frame
from pipeline.core.engine_stats import EngineStats, PartitionStats
from pipeline.core.families import FAMILIES, KEY_SEPARATOR, Family
from pipeline.core.tally import BOUNDS_SECONDS, Tally
from pipeline.export.page import Exporter
from pipeline.fold.board import Board
from pipeline.kit.clock import SystemClock
from pipeline.kit.settings import PipelineSettings, Settings

PARTITIONS: Final = 4


class FrameRecord(NamedTuple):
    """A record of ``mail.deltas``."""

    value: bytes | None
    offset: int = 0
    timestamp: int | None = None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def record(
    first: int, keys: int, types: int, at_ms: int, families: Sequence[Family]
) -> FrameRecord:
    """Return a frame with *types* rows for each of *keys* keys in each family."""
    index = np.repeat(np.arange(keys), types)
    kinds = np.tile(np.arange(types), keys)
    columns = []
    for family in families:
        more = KEY_SEPARATOR + "outbound"
        names = [
            f"account{first + n}@example.com" + more * (len(family.fields) - 1) for n in range(keys)
        ]
        pane = np.full(len(index), at_ms // 10_000)
        sums: dict[str, NDArray[np.int64]] = {str(name): index % 50 + 1 for name in family.sums}
        last = pane * 10_000 if family.last_event else None
        columns.append(FamilyRows.of(family.name, names, index, kinds, pane, sums, last))
    return FrameRecord(encode_frame(DeltaFrame(VERSION, "raw.zonemta", 0, at_ms, columns)))


def worker(clock: SystemClock) -> tuple[Board, Exporter]:
    """Return a board of four complete partitions and its exporter."""
    settings = Settings(pipeline=PipelineSettings(top_keys=500))
    board = Board(settings.pipeline.windows)
    stats = EngineStats(10_000, last_heartbeat_ms=clock.now_ms() + 3_600_000)
    tally = Tally()
    for partition in range(PARTITIONS):
        tp = TopicPartition("mail.deltas", partition)
        stats.partitions[tp] = PartitionStats(tp, ready=True)
        board.open(partition)
        board.complete(partition)
    counts = np.ones(len(BOUNDS_SECONDS) + 1, np.int64)
    for n in range(200):
        ip = f"192.0.2.{n}"
        counted = [((ip, "google", "delivered"), n), ((ip, "other", "sent"), n)]
        tally.add("mail_ip_outcomes_total", counted)
        tally.observe("mail_ip_delivery_seconds", (ip,), counts, 1.5)
    return board, Exporter(settings, board, tally, stats, clock, "0")


async def scrape(name: str, board: Board, exporter: Exporter, rounds: int, keys: int) -> None:
    """Scrape while frames keep coming, and measure the longest time that the loop was held."""
    times, body = [], b""
    blocked = 0.0

    async def flow() -> None:
        nonlocal blocked
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            blocked = max(blocked, time.perf_counter() - before)

    await exporter.page()
    watcher = asyncio.create_task(flow())
    for _ in range(rounds):
        now = time.time_ns() // 1_000_000
        for partition in range(PARTITIONS):
            one = record(partition * 1_000_000, min(keys, 100), 3, now, FAMILIES)
            board.fold(partition, [one], now)
        begun = time.perf_counter()
        body = (await exporter.page()).body
        times.append(time.perf_counter() - begun)
    watcher.cancel()
    series = sum(1 for line in body.splitlines() if not line.startswith(b"#"))
    begun = time.perf_counter()
    packed = gzip.compress(body, 1)
    report(
        name,
        sorted(times)[len(times) // 2] * 1000,
        "ms",
        series=series,
        longest_ms=round(max(times) * 1000, 1),
        loop_held_ms=round(blocked * 1000, 1),
        page_kb=len(body) // 1000,
        gzip_kb=len(packed) // 1000,
        gzip_ms=round((time.perf_counter() - begun) * 1000, 1),
    )


def report(bench: str, value: float, unit: str, **more: float) -> None:
    """Print one figure."""
    print(json.dumps({"bench": bench, "value": round(value, 2), "unit": unit, **more}))


def main() -> None:
    """Scrape 20,000 series, then the same worker with 100,000 keys in every family."""
    clock = SystemClock()
    now = clock.now_ms()
    for name, keys, rounds in (("export.scrape", 55, 30), ("export.scrape_flood", 25_000, 10)):
        board, exporter = worker(clock)
        for partition in range(PARTITIONS):
            for minute in range(3):
                one = record(partition * 1_000_000, keys, 3, now - minute * 60_000, FAMILIES)
                board.fold(partition, [one], now)
        asyncio.run(scrape(name, board, exporter, rounds, keys))


if __name__ == "__main__":
    main()
