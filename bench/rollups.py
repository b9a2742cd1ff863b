"""A worker takes over a day of closed panes: how long until it shows them, and what they weigh.

Active keys are those with at least one pane in the last 24 h; half of them have at most two of the
288 panes, and they have ten on average.  ``python -m bench.rollups`` measures the fold alone, without
Kafka, in CPU time of one core.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from numpy.typing import NDArray

from bench.figures import Figure
from pipeline.core.delta import DistinctRows, FamilyRows
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAMILIES, FAMILY, KEY_SEPARATOR, Family
from pipeline.core.pane import BASE_PANE_MS, DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.core.rollup import WATCH, Cut, encode_rollup
from pipeline.detect.blocks import Addresses
from pipeline.detect.history import Accounts
from pipeline.detect.watch import frames_of
from pipeline.fold.board import Board, schema_of
from tests.kit.processes import wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand, now_ms, stand

PARTITIONS: Final = 4
WINDOWS: Final = (MINUTE_MS, 5 * MINUTE_MS, HOUR_MS, DAY_MS)
FIVE: Final = 5 * MINUTE_MS
MEDIAN: Final = 2.0
SPREAD: Final = 1.85
"""Of the logarithm of a key's panes: makes ten on average."""
FEW, MANY = 200_000, 1_000_000
RECOVERY_BAR_S: Final = 20.0
MEMORY_BAR_MB: Final = 1500.0
ROWS: Final = 5_000
"""Rows in one frame, as workers write them."""
CHUNK: Final = 256 << 10
SHARES: Final[Mapping[str, float]] = {
    "user": 0.25,
    "client_ip": 0.25,
    "destination": 0.15,
    "domain": 0.15,
    "user_auth": 0.1,
    "failure": 0.05,
    "ip_provider": 0.05,
}
"""Which families the keys are of."""


class Frame(NamedTuple):
    """One frame, with its tier and the end of its pane."""

    tier: int | str
    end_ms: int
    value: bytes


class Keys(NamedTuple):
    """When the keys of one family in one partition were active: a row for each key and minute."""

    family: Family
    key: NDArray[np.int64]
    minute: NDArray[np.int64]
    """Before the end."""


def active(family: Family, keys: int, rng: np.random.Generator) -> Keys:
    """Return so many active keys."""
    panes = np.exp(rng.normal(np.log(MEDIAN), SPREAD, keys)).round().clip(1, DAY_MS // FIVE)
    key = np.repeat(np.arange(keys), panes.astype(np.int64))
    return Keys(family, key, rng.integers(1, DAY_MS // MINUTE_MS, len(key)))


def frames(keys: int, end_ms: int, seed: int) -> Iterator[Frame]:
    """Yield the frames of one partition's share of the active keys, as their panes closed."""
    rng = np.random.default_rng(seed)
    held = [
        active(FAMILY[name], round(keys * share / PARTITIONS), rng)
        for name, share in SHARES.items()
    ]
    for start_ms in range(end_ms - DAY_MS, end_ms, FIVE):
        if start_ms >= end_ms - HOUR_MS:
            for minute_ms in range(start_ms, start_ms + FIVE, MINUTE_MS):
                yield from _pane(held, minute_ms, MINUTE_MS, end_ms, seed, rng)
        yield from _pane(held, start_ms, FIVE, end_ms, seed, rng)


def _pane(
    held: Sequence[Keys],
    start_ms: int,
    length_ms: int,
    end_ms: int,
    seed: int,
    rng: np.random.Generator,
) -> Iterator[Frame]:
    newest, oldest = (end_ms - start_ms - length_ms) // MINUTE_MS, (end_ms - start_ms) // MINUTE_MS
    for one in held:
        inside = np.unique(one.key[(one.minute >= newest) & (one.minute < oldest)])
        for first in range(0, len(inside), ROWS // 2):
            some = inside[first : first + ROWS // 2]
            rows = _rows(one.family, some, start_ms, length_ms, seed, rng)
            yield Frame(length_ms, start_ms + length_ms, encode_rollup(length_ms, [rows]))
            if one.family.name == "user" and length_ms == FIVE:
                yield from _learned(rows, start_ms, rng)


def _learned(rows: FamilyRows, start_ms: int, rng: np.random.Generator) -> Iterator[Frame]:
    """Yield what anomaly detection knows of the accounts in *rows*."""
    figures = rng.integers(0, 10, (4, len(rows.keys)))
    nothing = np.zeros(0, np.int64)
    addresses = Addresses([], nothing, nothing, nothing)
    for value in frames_of(start_ms, Accounts(rows.keys, *figures), addresses):
        yield Frame(WATCH, start_ms + FIVE, value)


def _rows(
    family: Family,
    keys: NDArray[np.int64],
    start_ms: int,
    length_ms: int,
    seed: int,
    rng: np.random.Generator,
) -> FamilyRows:
    """Return a pane's rows of these keys: each has one event type, and half of them a second."""
    more = KEY_SEPARATOR + "outbound"
    names = [f"name{n}-{seed}@example{n % 97}.com" for n in keys.tolist()]
    index = np.concatenate([np.arange(len(keys)), np.flatnonzero(rng.random(len(keys)) < 0.5)])
    types = [EVENT_TYPES.index(name) for name in family.event_types[:2]]
    event_type = np.full(len(index), types[0])
    event_type[len(keys) :] = types[-1]
    base_pane = start_ms // BASE_PANE_MS
    rows = FamilyRows.of(
        family.name,
        [name + more * (len(family.fields) - 1) for name in names],
        index,
        event_type,
        np.full(len(index), base_pane),
        {name: rng.integers(1, 10, len(index)) for name in family.sums},
        np.full(len(index), start_ms) if family.last_event else None,
    )
    if length_ms == MINUTE_MS:
        for one in family.distincts:
            told = np.repeat(np.arange(len(keys)), 3)
            values = rng.integers(0, 1 << 62, len(told)).astype(np.uint64)
            rows.distincts[one.name] = DistinctRows.of(told, np.full(len(told), base_pane), values)
    return rows


def measure(bootstrap: str, folder: Path) -> Iterator[Figure]:
    """Yield the seconds of a recovery and the memory of a worker that holds a day."""
    for keys in FEW, MANY:
        with stand(bootstrap, folder / str(keys), partitions=PARTITIONS) as st:
            written = asyncio.run(_write(st, keys))
            worker = st.worker(1)
            wait_until(worker.address, "the worker listens", within_s=60, every_s=0.01)
            began = time.monotonic()
            st.wait_until_ready(within_s=300)
            seconds = time.monotonic() - began
            text = worker.metrics()
            assert text is not None
            page = Page([text])
            assert page.total("mail_client_ip_events", window="24h") > 0
            more = {
                "keys": keys,
                "frames_mb": round(written / 1e6),
                "refold_s": max(page.values("mailstream_refold_seconds")),
                "cpu_s": round(worker.cpu_s(), 2),
            }
            bar = RECOVERY_BAR_S if keys == FEW else None
            yield Figure(f"rollups.recovery_{keys}", seconds, "s", bar, at_most=True, more=more)
            memory = worker.peak_bytes() / 1e6
            bar = MEMORY_BAR_MB if keys == MANY else None
            yield Figure(f"rollups.memory_{keys}", memory, "MB", bar, at_most=True, more=more)
            worker.stop()


async def _write(st: Stand, keys: int) -> int:
    """Write frames and the cut that belongs to them, as a worker's transactions would have."""
    end_ms = now_ms() // FIVE * FIVE
    topic, written = st.topic("rollups"), 0
    cut = Cut(
        schema_of(WINDOWS, FAMILIES), uuid.uuid4().hex, "last", {MINUTE_MS: end_ms, FIVE: end_ms}
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=st.bootstrap,
        acks="all",
        max_batch_size=1 << 20,
        max_request_size=8 << 20,
        compression_type="zstd",
    )
    await producer.start()
    try:
        for partition in range(PARTITIONS):
            for one in frames(keys, end_ms, partition):
                written += len(one.value)
                await producer.send(
                    topic,
                    one.value,
                    partition=partition,
                    timestamp_ms=one.end_ms,
                    headers=cut.headers(one.tier),
                )
        await producer.flush()
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=st.bootstrap, group_id=st.group, enable_auto_commit=False
    )
    await consumer.start()
    try:
        tps = [TopicPartition(st.topic("deltas"), number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.commit(dict.fromkeys(tps, OffsetAndMetadata(0, cut.encode())))
    finally:
        await consumer.stop()
    return written


def alone(keys: int) -> dict[str, float]:
    """Restore so many keys on a board of this process; return seconds of CPU and memory."""
    end_ms = now_ms() // FIVE * FIVE
    board, spent, longest = Board(WINDOWS), 0.0, 0.0
    for partition in range(PARTITIONS):
        board.open(partition)
        chunk: list[bytes] = []
        size = 0
        for one in frames(keys, end_ms, partition):
            if one.tier == WATCH:
                continue
            chunk.append(one.value)
            size += len(one.value)
            if size >= CHUNK:
                begun = time.process_time()
                board.restore(partition, chunk, end_ms)
                longest = max(longest, time.process_time() - begun)
                spent += time.process_time() - begun
                chunk, size = [], 0
        begun = time.process_time()
        board.restore(partition, chunk, end_ms)
        board.follow(partition, Cut("", "", "", {MINUTE_MS: end_ms, FIVE: end_ms}, 0))
        board.complete(partition)
        for family in FAMILIES:
            board.settle(family.name, partition)
        spent += time.process_time() - begun
    shares = [share for family in FAMILIES for share in board.shares(family.name)]
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return {
        "keys": sum(int(share.alive.sum()) for share in shares),
        "cpu_s": round(spent, 2),
        "longest_call_ms": round(longest * 1000, 1),
        "resident_mb": round(resident / 1e6),
    }


if __name__ == "__main__":
    for wanted in map(int, sys.argv[1:] or (FEW, MANY)):
        print(json.dumps(alone(wanted)))
