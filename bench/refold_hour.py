"""A worker starts after an hour of 1,000 events a second: how long until it shows all of it.

At that rate a transaction holds a second of one source partition: frames are small and many, which
is what makes them dear.  One minute of frames is made by phase 1 itself; the other 59 are that
minute moved back in time.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from bench.figures import Figure
from pipeline.core.batch import Output, TopicPartition
from pipeline.core.delta import SUM, decode_frame, encode_frame
from pipeline.core.engine_stats import EngineStats
from pipeline.core.event import partition_of
from pipeline.core.tally import Tally
from pipeline.core.topics import TopicNames
from pipeline.enrich.forms import forms
from pipeline.enrich.step import Enricher
from tests.kit.oracle import HOUR, MINUTE, SECOND
from tests.kit.processes import wait_until
from tests.kit.raw_log import RawRecord, drawn_record
from tests.kit.scrape import Page
from tests.kit.stand import Stand, now_ms, stand
from tests.kit.traffic import plain

RATE: Final = 1000
MINUTES: Final = 60
TOP_KEYS: Final = 500
BAR_S: Final = 10.0


class Frame(NamedTuple):
    """One delta frame of the template minute."""

    partition: int
    value: bytes
    at_ms: int
    rows: int


class _Record(NamedTuple):
    """A raw record as read."""

    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def measure(bootstrap: str, folder: Path) -> Iterator[Figure]:
    """Yield the seconds that the hour takes, and the rate in rows."""
    with stand(bootstrap, folder, pipeline={"top_keys": TOP_KEYS}) as st:
        last = now_ms() // MINUTE * MINUTE
        frames = _minute(st, last)
        asyncio.run(_write(st, frames))
        rows = MINUTES * sum(frame.rows for frame in frames)
        worker = st.worker(1)
        wait_until(worker.address, "the worker listens", within_s=60, every_s=0.01)
        began = time.monotonic()
        st.wait_until_ready()
        ready = time.monotonic() - began
        text = worker.metrics()
        assert text is not None
        page = Page([text])
        refold = max(page.values("mailstream_refold_seconds"))
        shown = page.total("mail_node_events", window="1h")
        more = {
            "rows": rows,
            "frames": MINUTES * len(frames),
            "rows_per_second": round(rows / refold),
            "events_shown": round(shown),
            "seconds_to_ready": round(ready, 2),
            "cpu_seconds": round(worker.cpu_s(), 2),
        }
        assert shown >= (MINUTES - 3) * 60 * RATE, f"{shown} events are shown"
        yield Figure("refold.last_hour", refold, "s", BAR_S, at_most=True, more=more)
        worker.stop()


def _minute(st: Stand, last: int) -> list[Frame]:
    """Return the frames of the minute before *last*."""
    names = TopicNames(st.prefix)
    stats = EngineStats(session_timeout_ms=10_000)
    step = Enricher(
        names,
        st.partitions,
        horizon_ms=HOUR,
        max_ids=1_000_000,
        tally=Tally(),
        stats=stats,
        forms=forms(),
    )
    first = last - MINUTE
    drawn = plain(60 * RATE, seed=1, first_ms=first, last_ms=last)
    frames: list[Frame] = []
    offsets: dict[int, int] = defaultdict(int)
    for partition in range(st.partitions):
        step.open(TopicPartition(names.of("raw.zonemta"), partition))
    for second in range(60):
        at = first + second * SECOND
        parts: dict[int, list[RawRecord]] = defaultdict(list)
        for one in islice(drawn, RATE):
            record = drawn_record(one, at)
            parts[partition_of(record.key, st.partitions)].append(record)
        for partition, records in parts.items():
            start = offsets[partition]
            offsets[partition] = end = start + len(records)
            read = [
                _Record(start + place, at, one.key, one.value, one.headers)
                for place, one in enumerate(records)
            ]
            tp = TopicPartition(names.of("raw.zonemta"), partition)
            result = step.on_batch(tp, read, start, end, at)
            result.on_commit()
            frames += _frames(result.outputs, names.of("deltas"), at)
    return frames


def _frames(outputs: Sequence[Output], topic: str, at: int) -> Iterator[Frame]:
    for output in outputs:
        if output.topic == topic:
            for record in output.records:
                rows = sum(len(part) for part in decode_frame(record.value).families)
                yield Frame(output.partition, record.value, at, rows)


def _moved(value: bytes, minutes: int) -> bytes:
    """Return the frame as it would have been so many minutes earlier."""
    frame = decode_frame(value)
    families = [
        msgspec.structs.replace(
            part,
            pane=(part.column_pane() - np.uint32(minutes * 6)).tobytes(),
            last=(np.frombuffer(part.last, SUM) - minutes * MINUTE).tobytes(),
        )
        for part in frame.families
    ]
    watermark = frame.watermark_ms - minutes * MINUTE
    return encode_frame(msgspec.structs.replace(frame, families=families, watermark_ms=watermark))


async def _write(st: Stand, frames: list[Frame]) -> None:
    """Write the minute once for each minute of the hour, oldest first."""
    producer = AIOKafkaProducer(
        bootstrap_servers=st.bootstrap, acks="all", max_batch_size=1 << 20, linger_ms=20
    )
    await producer.start()
    try:
        for minutes in range(MINUTES - 1, -1, -1):
            sent = [
                await producer.send(
                    st.topic("deltas"),
                    _moved(frame.value, minutes),
                    partition=frame.partition,
                    timestamp_ms=frame.at_ms - minutes * MINUTE,
                )
                for frame in frames
            ]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()
