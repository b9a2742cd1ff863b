"""One worker drains a million events, exactly once, all families on; then re-folds what it wrote."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure
from bench.load import Progress, floor, load
from pipeline.core.delta import decode_frame
from tests.kit.kafka_read import read_topics
from tests.kit.processes import Worker, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand, stand

TOP_KEYS: Final = 500
WITHIN_S: Final = 180.0


def measure(
    bootstrap: str, folder: Path, count: int, *, codec: str, instead: Sequence[str] = ()
) -> Iterator[Figure]:
    """Yield the figures of one drain, then those of a re-fold of its deltas.

    Args:
        bootstrap: The broker.
        folder: For the worker's files.
        count: Events.
        codec: Of what the worker writes: the name in the figures.
        instead: The module that stands in for the worker's, where it writes with another codec.
    """
    with stand(bootstrap, folder, pipeline={"top_keys": TOP_KEYS}) as st:
        more = asyncio.run(load(st, count)) | {"codec": codec}
        if not instead:
            seconds = asyncio.run(floor(st, count))
            yield Figure("floor.cpu", seconds / count * 1e6, "CPU-s per million", at_most=True)
        yield from _drain(st, st.worker(1, instead), count, more)
        if not instead:
            st.worker(1).stop()
            yield from _refold(st, st.worker(1))
        st.worker(1).stop()


def _drain(st: Stand, worker: Worker, count: int, more: dict[str, Any]) -> Iterator[Figure]:
    wait_until(worker.address, "the worker listens", within_s=60, every_s=0.01)
    cpu_before = worker.cpu_s()
    seconds, share = asyncio.run(_time_commits(st, count))
    cpu = _folded_cpu(worker, count) - cpu_before
    suffix = "" if more["codec"] != "none" else ".uncompressed"
    yield Figure(f"drain.rate{suffix}", share / seconds, "events/s", more=more)
    bar = 9.0 if suffix else 12.0
    yield Figure(
        f"drain.cpu{suffix}", cpu / count * 1e6, "CPU-s per million", bar, at_most=True, more=more
    )
    yield Figure(
        f"drain.memory{suffix}", worker.peak_bytes() / 1e6, "MB", 500, at_most=True, more=more
    )


async def _time_commits(st: Stand, count: int) -> tuple[float, int]:
    """Return the seconds between the first commits and the last, and the events in between."""
    deadline = time.monotonic() + WITHIN_S
    async with Progress(st) as progress:
        first: tuple[float, int] | None = None
        while time.monotonic() < deadline:
            done, now = await progress.committed(), time.monotonic()
            if done and first is None:
                first = now, done
            if first is not None and done >= count:
                return now - first[0], done - first[1]
            await asyncio.sleep(0.05)
    raise TimeoutError(f"{count} events were not drained within {WITHIN_S:.0f} s")


def _folded_cpu(worker: Worker, count: int) -> float:
    """Return the worker's CPU seconds once it shows every event, the scrapes left out."""
    scrapes = 0.0

    def folded() -> float | None:
        nonlocal scrapes
        before = worker.cpu_s()
        text = worker.metrics()
        if text is None:
            return None
        shown = Page([text]).total("mail_node_events", window="1h")
        if shown == count:
            return before - scrapes
        scrapes += worker.cpu_s() - before
        return None

    return wait_until(folded, "all events are folded", within_s=30, every_s=0.2)


def _refold(st: Stand, worker: Worker) -> Iterator[Figure]:
    st.wait_until_ready()
    text = worker.metrics()
    assert text is not None
    seconds = max(Page([text]).values("mailstream_refold_seconds"))
    frames = asyncio.run(read_topics(st.bootstrap, [st.topic("deltas")], st.partitions))
    rows = sum(len(part) for one in frames for part in decode_frame(one.value).families)
    more = {"rows": rows, "frames": len(frames), "seconds": round(seconds, 2)}
    yield Figure("refold.rate", rows / seconds, "rows/s", 400_000, more=more)
