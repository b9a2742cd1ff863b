"""Replay: what a raw topic holds, once more under another prefix, by the command itself."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.figures import Figure
from bench.load import load
from tests.kit.processes import ROOT, mailstream
from tests.kit.stand import Stand, stand

RATE_BAR: Final = 50_000
WITHIN_S: Final = 300.0


def measure(bootstrap: str, folder: Path, count: int) -> Iterator[Figure]:
    """Yield the rate and the CPU of a replay of *count* events, its start and end included."""
    with stand(bootstrap, folder / "live") as live, stand(bootstrap, folder / "beside") as beside:
        more = asyncio.run(load(live, count))
        seconds, cpu_s = _replayed(live, "--into-prefix", beside.prefix)
        yield Figure("replay.rate", count / seconds, "events/s", RATE_BAR, more=more)
        yield Figure(
            "replay.cpu", cpu_s / count * 1e6, "CPU-s per million", at_most=True, more=more
        )
        file = folder / "replayed.jsonl"
        seconds, cpu_s = _replayed(live, "--to-file", file)
        yield Figure("replay.file_rate", count / seconds, "events/s", more=more)
        file.unlink()


def _replayed(live: Stand, *to: str | Path) -> tuple[float, float]:
    """Replay what ``raw.zonemta`` holds; return the seconds, and those of the CPU."""
    command = mailstream("replay", "raw.zonemta", *to, "--yes", "--config", live.config)
    began, before = time.monotonic(), _cpu_s()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=WITHIN_S)
    return time.monotonic() - began, _cpu_s() - before


def _cpu_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
