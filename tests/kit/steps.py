"""Small steps for tests of the engine: every record is an id, copied, counted and remembered."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import xxhash

from pipeline.core.batch import Output, OutRecord, Record, StepResult, TopicPartition
from pipeline.core.seen import HASH, VERSION, SeenRun, Segment, decode_run, encode_run
from pipeline.core.topics import TopicNames


def _hash(value: bytes) -> int:
    return xxhash.xxh3_64_intdigest(value)


class CopySource:
    """Phase 1 in small: copies new ids to the events, counts them to the deltas, once each."""

    def __init__(self, names: TopicNames, partitions: int) -> None:
        self._names = names
        self._partitions = partitions
        self.seen: dict[TopicPartition, set[int]] = {}
        self.warmed: Counter[TopicPartition] = Counter()
        self.opened: Counter[TopicPartition] = Counter()
        self.before_batch: Callable[[TopicPartition, Sequence[Record]], None] | None = None
        """Called with every batch; what it raises, the step raises."""
        self.closed: Counter[TopicPartition] = Counter()

    def open(self, tp: TopicPartition) -> None:
        assert tp not in self.seen
        self.seen[tp] = set()
        self.opened[tp] += 1

    def warm(self, tp: TopicPartition, seen: bytes) -> None:
        run = decode_run(seen)
        assert (run.topic, run.partition) == tp
        for segment in run.segments:
            self.seen[tp].update(segment.column().tolist())
        self.warmed[tp] += 1

    def on_batch(
        self, tp: TopicPartition, records: Sequence[Record], start: int, end: int, now_ms: int
    ) -> StepResult:
        assert all(start <= record.offset < end for record in records)
        if self.before_batch is not None:
            self.before_batch(tp, records)
        held = self.seen[tp]
        new: dict[int, bytes] = {}
        for record in records:
            value = record.value or b""
            number = _hash(value)
            if number not in held:
                new.setdefault(number, value)
        copies = [OutRecord(value, key=value) for value in new.values()]
        counts: dict[int, Counter[str]] = {}
        for number, value in new.items():
            key = value.decode().partition("-")[0]
            counts.setdefault(number % self._partitions, Counter())[key] += 1
        names = self._names
        outputs = [Output(names.of("events"), tp.partition, copies)] if copies else []
        outputs += [
            Output(names.of("deltas"), target, [OutRecord(json.dumps(count).encode())])
            for target, count in counts.items()
        ]
        outputs.append(self._run(tp, start, end, list(new), now_ms))
        return StepResult(outputs, len(records), lambda: held.update(new))

    def dead_letter(
        self, tp: TopicPartition, record: Record, error: BaseException, now_ms: int
    ) -> StepResult:
        letter = OutRecord(record.value or b"", headers=[("error", repr(error).encode())])
        end = record.offset + 1
        return StepResult(
            [
                Output(self._names.of("dead"), tp.partition, [letter]),
                self._run(tp, record.offset, end, [], now_ms),
            ]
        )

    def close(self, tp: TopicPartition) -> None:
        del self.seen[tp]
        self.closed[tp] += 1

    def _run(
        self, tp: TopicPartition, start: int, end: int, hashes: list[int], now_ms: int
    ) -> Output:
        column = np.array(sorted(hashes), HASH).tobytes()
        run = SeenRun(VERSION, *tp, start, end, now_ms, [Segment(now_ms, column)])
        return Output(self._names.of("seen"), tp.partition, [OutRecord(encode_run(run))])


class CountFold:
    """Phase 2 in small: sums per key and partition."""

    def __init__(self) -> None:
        self.sums: dict[int, Counter[str]] = {}
        self.complete_partitions: set[int] = set()
        self.opened: Counter[int] = Counter()

    def open(self, partition: int) -> None:
        assert partition not in self.sums
        self.sums[partition] = Counter()
        self.opened[partition] += 1

    def fold(self, partition: int, records: Sequence[Record], now_ms: int) -> None:
        for record in records:
            self.sums[partition].update(json.loads(record.value or b"{}"))

    def complete(self, partition: int) -> None:
        assert partition not in self.complete_partitions
        self.complete_partitions.add(partition)

    def close(self, partition: int) -> None:
        del self.sums[partition]
        self.complete_partitions.discard(partition)

    @property
    def total(self) -> int:
        return sum(counts.total() for counts in self.sums.values())


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return as soon as *condition* holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  the engine's figures have no events
            await asyncio.sleep(0.02)
