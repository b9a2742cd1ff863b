"""Replays as commands, and what two pipelines made of the same records, as numbers that must be equal."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from pipeline.core.delta import decode_frame, value_hash
from tests.kit.event_log import EventLog
from tests.kit.processes import ROOT, mailstream
from tests.kit.raw_log import RawWriter, drawn_record
from tests.kit.stand import Stand, now_ms
from tests.kit.traffic import Drawn, plain

SLICE: Final = 20_000
MINUTE: Final = 60_000
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(31)


def command(log: EventLog, folder: Path, *arguments: str | Path) -> list[str | Path]:
    """Return the command of a replay of the topics of *log*."""
    config = folder / "mailstream.yaml"
    topics = {"prefix": log.settings.topics.prefix, "partitions": log.partitions}
    kafka = {"bootstrap_servers": log.bootstrap}
    config.write_text(json.dumps({"topics": topics, "kafka": kafka}))
    return mailstream("replay", *arguments, "--config", config)


def replay(log: EventLog, folder: Path, *arguments: str | Path, code: int = 0) -> list[str]:
    """Run one; return the lines of standard output, or of standard error if it should fail."""
    ran = subprocess.run(
        command(log, folder, *arguments), capture_output=True, cwd=ROOT, check=False, timeout=60
    )
    assert ran.returncode == code, ran.stderr + ran.stdout
    return (ran.stderr or ran.stdout).decode().splitlines()


async def write_plain(stand: Stand, count: int) -> None:
    """Write *count* events of the last ten minutes, and one in a hundred of them again."""
    last = now_ms()
    events = plain(count, seed=11, first_ms=last - 10 * MINUTE, last_ms=last)
    async with RawWriter(stand.bootstrap, stand.raw[0], stand.partitions) as writer:
        while some := list(islice(events, SLICE)):
            await writer.write(drawn_record(one, last) for one in _with_repeats(some))


def _with_repeats(some: list[Drawn]) -> Iterator[Drawn]:
    yield from some
    yield from some[::100]


def events_digest(stand: Stand) -> dict[int, tuple[int, str]]:
    """Return number and SHA-256 of the events of each partition, in their order.

    Everything of a record counts but its time: key, value, headers.
    """
    count: Counter[int] = Counter()
    digests: dict[int, Any] = defaultdict(hashlib.sha256)

    def take(record: Any) -> None:
        count[record.partition] += 1
        parts = [record.key or b"", record.value or b"", *(value for _, value in record.headers)]
        digests[record.partition].update(b"".join(b"%d:%b" % (len(part), part) for part in parts))

    asyncio.run(_read(stand, "events", take))
    return {number: (count[number], one.hexdigest()) for number, one in digests.items()}


def sums_digest(stand: Stand) -> dict[tuple[str, str], tuple[int, int]]:
    """Return of each sum of each family its total, and a number that equal sums have in common.

    That number adds up, over the rows of ``mail.deltas``, amount times a hash of (key, event type,
    pane), modulo 2^64: however batches were cut, it is the same for the same sums.
    """
    found: dict[tuple[str, str], tuple[int, int]] = {}

    def take(record: Any) -> None:
        for rows in decode_frame(record.value).families:
            keys = np.array([value_hash(key) for key in rows.keys], np.uint64)
            place = keys[rows.column_key_index()]
            for column in rows.column_event_type(), rows.column_pane():
                place = _mixed(place, column.astype(np.uint64))
            for name in rows.sums:
                amount = rows.column_sum(name)
                total, known = found.get((rows.family, name), (0, 0))
                weighed = int((place * amount.astype(np.uint64)).sum(dtype=np.uint64))
                found[rows.family, name] = total + int(amount.sum()), (known + weighed) % (1 << 64)

    asyncio.run(_read(stand, "deltas", take))
    return found


def _mixed(place: NDArray[np.uint64], column: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = (place + column) * _MIX
    return mixed ^ (mixed >> _SHIFT)


async def _read(stand: Stand, topic: str, take: Callable[[Any], None]) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stand.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(stand.topic(topic), number) for number in range(stand.partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        left = {tp for tp, end in ends.items() if end > 0}
        while left:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    take(record)
            left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()


def assert_replay_is_equal(live: Stand, beside: Stand, count: int, within_s: float) -> None:
    """Replay *count* raw records beside the live pipeline; assert that it makes the same of them."""
    live.worker(1)
    live.wait_until_caught_up(within_s=within_s)
    live.worker(1).stop()
    beside.worker(1)
    asked = "raw.zonemta", "--into-prefix", beside.prefix, "--yes", "--config", live.config
    ran = subprocess.run(
        mailstream("replay", *asked), capture_output=True, cwd=ROOT, check=False, timeout=within_s
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.decode().splitlines()[-1] == f"{count} records written, of {count} read"
    beside.wait_until_caught_up(within_s=within_s)
    beside.worker(1).stop()
    events, sums = events_digest(live), sums_digest(live)
    assert events_digest(beside) == events
    assert sums_digest(beside) == sums
    assert sums["node", "count"][0] == sum(number for number, _ in events.values())
