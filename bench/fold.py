"""What the fold costs: re-fold of large and of small frames, and a steady second.

Prints one JSON line per figure: ``{"bench", "value", "unit", ...}``, in CPU time of one core.  Run it as
``python -m bench.fold``.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from pipeline.core.delta import VERSION, DeltaFrame, DistinctRows, FamilyRows, encode_frame
from pipeline.core.families import FAMILIES, KEY_SEPARATOR, Family
from pipeline.fold.board import Board

NOW: Final = 1_700_000_000_000
WINDOWS: Final = (60_000, 300_000, 3_600_000)
PARTITIONS: Final = 4
DISTINCT: Final = 20_000
"""Keys per family and partition, drawn with Zipf's law."""
VALUES: Final = 5_000
"""Values of each distinct count, drawn likewise."""


class FrameRecord(NamedTuple):
    """A record of ``mail.deltas``."""

    value: bytes | None
    offset: int = 0
    timestamp: int | None = None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def family_rows(family: Family, rows: int, at_ms: int, rng: np.random.Generator) -> FamilyRows:
    """Return *rows* random rows of one family whose events happened in the minute before."""
    number = np.minimum(rng.zipf(1.2, rows), DISTINCT)
    distinct, index = np.unique(number, return_inverse=True)
    more = KEY_SEPARATOR + "outbound"
    keys = [f"account{n}@example{n % 97}.com" + more * (len(family.fields) - 1) for n in distinct]
    pane = (at_ms - (rng.random(rows) ** 4 * 60_000).astype(np.int64)) // 10_000
    made = FamilyRows.of(
        family.name,
        keys,
        index,
        rng.integers(0, 5, rows),
        pane,
        {name: rng.integers(1, 10, rows) for name in family.sums},
        pane * 10_000 if family.last_event else None,
    )
    for one in family.distincts:
        values = np.minimum(rng.zipf(1.2, rows), VALUES).astype(np.uint64) << np.uint64(32)
        made.distincts[one.name] = DistinctRows.of(index, pane, values)
    return made


def record(rows: int, at_ms: int, rng: np.random.Generator) -> FrameRecord:
    """Return a frame of *rows* rows, spread evenly over all families."""
    families = [family_rows(family, rows // len(FAMILIES), at_ms, rng) for family in FAMILIES]
    return FrameRecord(encode_frame(DeltaFrame(VERSION, "raw.zonemta", 0, at_ms, families)))


def refold(name: str, frames: int, rows: int) -> None:
    """Fold an hour of frames of *rows* rows each, in calls of at most 256 kB or 500 frames."""
    rng = np.random.default_rng(1)
    log = [record(rows, NOW - 3_600_000 + n * 3_600_000 // frames, rng) for n in range(frames)]
    board = Board(WINDOWS)
    board.open(0)
    longest = 0.0
    begun = time.process_time()
    step = max(1, min(500, 262_144 // len(log[-1].value or b"")))
    for start in range(0, frames, step):
        call = time.process_time()
        board.fold(0, log[start : start + step], NOW)
        longest = max(longest, time.process_time() - call)
    board.complete(0)
    for family in FAMILIES:
        board.shares(family.name)
    seconds = time.process_time() - begun
    total = frames * (rows // len(FAMILIES)) * len(FAMILIES)
    report(name, total / seconds, "rows/s", rows=total, longest_call_ms=round(longest * 1000, 1))


def steady() -> None:
    """Fold what 1,000 events/s give: 8 source partitions a second, each a frame per partition."""
    rng = np.random.default_rng(2)
    seconds = 120
    frames = [
        [record(9 * 12, NOW + second * 1000, rng) for _ in range(8 * PARTITIONS)]
        for second in range(seconds)
    ]
    board = Board(WINDOWS)
    for partition in range(PARTITIONS):
        board.open(partition)
        board.complete(partition)
    begun = time.process_time()
    for second, records in enumerate(frames):
        for place, one in enumerate(records):
            board.fold(place % PARTITIONS, [one], NOW + second * 1000)
        if second % 5 == 0:
            for family in FAMILIES:
                board.shares(family.name)
    spent = time.process_time() - begun
    report("fold.steady", spent / seconds * 100, "% of a core", frames_per_s=8 * PARTITIONS)


def memory() -> None:
    """Let a million distinct keys pass through in ten hours."""
    rng = np.random.default_rng(3)
    family = next(family for family in FAMILIES if family.name == "user")
    board = Board(WINDOWS)
    board.open(0)
    board.complete(0)
    tracemalloc.start()
    peak = 0
    for minute in range(600):
        at = NOW + minute * 60_000
        keys = [f"user{minute * 1700 + n}@example.com" for n in range(1700)]
        column = np.full(len(keys), 1)
        rows = FamilyRows.of(
            family.name,
            keys,
            np.arange(len(keys)),
            rng.integers(0, 5, len(keys)),
            column * (at // 10_000),
            dict.fromkeys(family.sums, column),
        )
        value = encode_frame(DeltaFrame(VERSION, "raw.zonemta", 0, at, [rows]))
        board.fold(0, [FrameRecord(value)], at)
        (share,) = board.shares(family.name)
        peak = max(peak, int(share.alive.sum()))
        if minute == 120:
            after_two_hours = tracemalloc.get_traced_memory()[0]
    held = tracemalloc.get_traced_memory()[0]
    report(
        "fold.memory",
        held / 1e6,
        "MB",
        keys_passed=600 * 1700,
        keys_active=peak,
        after_two_hours=round(after_two_hours / 1e6, 1),
    )


def report(bench: str, value: float, unit: str, **more: float) -> None:
    """Print one figure."""
    print(json.dumps({"bench": bench, "value": round(value, 2), "unit": unit, **more}))


if __name__ == "__main__":
    refold("fold.refold_large_frames", 400, 9 * 550)
    refold("fold.refold_small_frames", 20_000, 9 * 11)
    steady()
    memory()
