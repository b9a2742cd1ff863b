"""Phase 1: raw records to enriched events, combined deltas, seen runs and dead letters.

Pure: no clock, no I/O.  A batch's result is a function of its records and of the partition's
seen-set; nothing is changed until ``on_commit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import xxhash

from pipeline.core.batch import Output, OutRecord, Record, StepResult, TopicPartition
from pipeline.core.engine_stats import EngineStats
from pipeline.core.errors import Reason
from pipeline.core.pane import FUTURE_AFTER_MS, LATE_AFTER_MS
from pipeline.core.seen import VERSION, SeenRun, decode_run, encode_run
from pipeline.core.tally import Tally
from pipeline.core.topics import RAW_PREFIX, TopicNames
from pipeline.enrich.columns import Columns, Ints
from pipeline.enrich.combine import Combiner
from pipeline.enrich.counts import (
    Counts,
    Newest,
    commit_newest,
    count_events,
    count_odd_times,
    newest_times,
)
from pipeline.enrich.dead import dead_letter
from pipeline.enrich.dedupe import BUCKETS, SeenSet, Verdict, segments_of
from pipeline.enrich.normalise import Normaliser
from pipeline.enrich.read import Intake, Reader, Refused

_encode = msgspec.json.Encoder().encode


class Fresh(NamedTuple):
    """The new events of a batch."""

    records: list[OutRecord]
    """As written to ``mail.events``."""
    columns: Columns
    received_ms: Ints
    future: np.typing.NDArray[np.bool_]
    """Which were newer than their ingest, so that they count at their ingest time."""


class Enricher:
    """Phase 1 of one worker (``core.batch.SourceStep``)."""

    def __init__(
        self,
        names: TopicNames,
        partitions: int,
        *,
        horizon_ms: int,
        max_ids: int,
        tally: Tally,
        stats: EngineStats,
    ) -> None:
        """Set up with no partition open.

        Args:
            names: Full topic names.
            partitions: Number of partitions of ``mail.deltas``.
            horizon_ms: How long an event id is remembered, by ``received``.
            max_ids: Most ids remembered by all partitions together; beyond, the oldest go.
            tally: Where events are counted, after the commit.
            stats: Where newest times and the state of the seen-sets are shown, after the commit.
        """
        self._names = names
        self._horizon_ms = horizon_ms
        self._max_ids = max_ids
        self._tally = tally
        self._stats = stats
        self._reader = Reader()
        self._normaliser = Normaliser()
        self._combiner = Combiner(partitions)
        self._seen: dict[TopicPartition, SeenSet] = {}
        self._show_seen()

    def open(self, tp: TopicPartition) -> None:
        """Begin a partition with empty state; called on assignment, before any warm-up."""
        self._seen[tp] = SeenSet(self._horizon_ms, max_bucket=self._max_ids // BUCKETS)
        self._show_seen()

    def warm(self, tp: TopicPartition, seen: bytes) -> None:
        """Take one value of ``mail.seen`` that was written by *tp*, oldest first."""
        self._seen[tp].warm(decode_run(seen))
        self._keep_within_bounds()

    def close(self, tp: TopicPartition) -> None:
        """Forget the partition's state: it was revoked or must be recovered."""
        self._seen.pop(tp, None)
        self._show_seen()

    def on_batch(
        self,
        tp: TopicPartition,
        records: Sequence[Record],
        start: int,
        end: int,
        now_ms: int,  # noqa: ARG002  phase 1 is a function of the log alone
    ) -> StepResult:
        """Turn the records of log positions ``[start, end)`` into outputs.  Pure until ``on_commit``."""
        seen = self._seen[tp]
        intake = self._reader.read(records)
        received_ms = np.fromiter(
            (head.received_ms for head in intake.heads), np.int64, len(intake.heads)
        )
        verdict = seen.judge(hashes_of(intake), received_ms)
        counts = Counts()
        for place in np.flatnonzero(~verdict.new).tolist():
            counts.add("mail_events_duplicate_total", (intake.heads[place].source,))
        fresh = self._normalised(intake, np.flatnonzero(verdict.new), received_ms)
        outputs: list[Output] = []
        if fresh.records:
            outputs.append(Output(self._names.of("events"), tp.partition, fresh.records))
            outputs += self._combined(fresh, tp, verdict, counts)
        outputs.append(self._run(tp, verdict, start, end))
        if intake.refused:
            outputs.append(self._dead(tp, intake.refused, counts))
        newest = newest_times(fresh.columns, fresh.received_ms)

        def on_commit() -> None:
            seen.commit(verdict)
            self._committed(counts, newest)

        return StepResult(outputs, len(fresh.records), on_commit)

    def dead_letter(
        self,
        tp: TopicPartition,
        record: Record,
        error: BaseException,
        now_ms: int,  # noqa: ARG002  as above
    ) -> StepResult:
        """Turn one record on which :meth:`on_batch` raised into a dead letter (and its seen run)."""
        counts = Counts()
        source = self._source_of(tp)
        counts.add("mail_events_dead_total", (source, Reason.BUG.value))
        words = f"{Reason.BUG}: {type(error).__name__}: {error}"
        letter = dead_letter(tp, record, source, words)
        nothing = Verdict(np.zeros(0, np.bool_), [], self._seen[tp].clock_ms)
        outputs = [
            self._run(tp, nothing, record.offset, record.offset + 1),
            Output(self._names.of("dead"), tp.partition, [letter]),
        ]
        return StepResult(outputs, 0, lambda: self._committed(counts, {}))

    def _normalised(
        self, intake: Intake, places: np.typing.NDArray[np.intp], received_ms: Ints
    ) -> Fresh:
        """Return the new events, normalised, enriched and encoded."""
        if len(places) < len(intake.events):
            intake.keep(places.tolist())
        posted_ms = np.array(intake.times, np.int64)[places]
        received = received_ms[places]
        event_ms = list(
            map(
                self._normaliser.apply,
                intake.events,
                intake.ids,
                intake.heads,
                posted_ms.tolist(),
            )
        )
        keys = [record.key for record in intake.records]
        records = list(map(OutRecord, map(_encode, intake.events), keys))
        future = posted_ms - received > FUTURE_AFTER_MS
        return Fresh(records, Columns(intake.events, event_ms), received, future)

    def _combined(
        self, fresh: Fresh, tp: TopicPartition, verdict: Verdict, counts: Counts
    ) -> list[Output]:
        """Return the frames of the new events, and count what the tally shows of them."""
        columns = fresh.columns
        late = fresh.received_ms - columns.event_ms > LATE_AFTER_MS
        combined = self._combiner.combine(columns, ~late, tp, verdict.clock_ms)
        count_events(counts, columns)
        count_odd_times(counts, columns, late, fresh.future)
        for family, number in combined.unattributed.items():
            counts.add("mail_events_unattributed_total", (family,), number)
        topic = self._names.of("deltas")
        return [
            Output(topic, partition, [OutRecord(frame)])
            for partition, frame in combined.frames.items()
        ]

    def _run(self, tp: TopicPartition, verdict: Verdict, start: int, end: int) -> Output:
        run = SeenRun(
            VERSION, tp.topic, tp.partition, start, end, verdict.clock_ms, segments_of(verdict)
        )
        return Output(self._names.of("seen"), tp.partition, [OutRecord(encode_run(run))])

    def _dead(self, tp: TopicPartition, refused: Sequence[Refused], counts: Counts) -> Output:
        letters = []
        for record, known_source, error in sorted(refused, key=lambda one: one.record.offset):
            source = known_source or self._source_of(tp)
            letters.append(dead_letter(tp, record, source, str(error)))
            counts.add("mail_events_dead_total", (source, error.reason.value))
        return Output(self._names.of("dead"), tp.partition, letters)

    def _source_of(self, tp: TopicPartition) -> str:
        return tp.topic.removeprefix(self._names.prefix + RAW_PREFIX)

    def _committed(self, counts: Counts, newest: dict[tuple[str, str], Newest]) -> None:
        counts.commit(self._tally)
        commit_newest(newest, self._stats)
        if newest:
            self._stats.last_commit_received_ms = max(one.received_ms for one in newest.values())
        self._keep_within_bounds()

    def _keep_within_bounds(self) -> None:
        """Forget the oldest ids of all partitions while there are too many."""
        while sum(seen.count for seen in self._seen.values()) > self._max_ids:
            holding = [seen for seen in self._seen.values() if seen.oldest_ms is not None]
            min(holding, key=lambda seen: seen.oldest_ms or 0).forget_oldest()
        self._show_seen()

    def _show_seen(self) -> None:
        """Show how many ids are held, and how far back every partition remembers."""
        reach_ms = [
            min(self._horizon_ms, max(0, seen.clock_ms - seen.forgotten_ms))
            for seen in self._seen.values()
            if seen.forgotten_ms
        ]
        self._stats.dedupe_horizon_s = min([self._horizon_ms, *reach_ms]) / 1000
        self._stats.dedupe_ids = sum(seen.count for seen in self._seen.values())


def hashes_of(intake: Intake) -> np.typing.NDArray[np.uint64]:
    """Return ``core.event.id_hash`` of every record."""
    texts = [
        head.id_prefix + event_id.encode()
        for head, event_id in zip(intake.heads, intake.ids, strict=True)
    ]
    return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(texts))
