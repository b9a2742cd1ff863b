"""Phase 1: raw records to enriched events, combined deltas, seen runs and dead letters.

Pure: no clock, no I/O.  A batch's result is a function of its records and of the partition's
seen-set; nothing is changed until ``on_commit``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import xxhash

from pipeline.core.batch import Output, OutRecord, Record, StepResult, TopicPartition
from pipeline.core.engine_stats import EngineStats
from pipeline.core.errors import Reason
from pipeline.core.families import FAMILIES, Family
from pipeline.core.pane import LATE_AFTER_MS
from pipeline.core.seen import VERSION, SeenRun, decode_run, encode_run
from pipeline.core.tally import Tally
from pipeline.core.topics import RAW_PREFIX, TopicNames
from pipeline.enrich.columns import Columns, Ints, Layout
from pipeline.enrich.combine import Combiner
from pipeline.enrich.counts import (
    Counts,
    Newest,
    commit_newest,
    count_events,
    count_late,
    newest_times,
)
from pipeline.enrich.dead import dead_letter
from pipeline.enrich.dedupe import BUCKETS, Hashes, SeenSet, Verdict, segments_of
from pipeline.enrich.forms import Forms
from pipeline.enrich.head import Headed, Heads, Refused
from pipeline.enrich.parsing import Skip
from pipeline.enrich.probes import NO_PROBES, ProbeAccounts
from pipeline.enrich.transform import Transformed, Transformer


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
        forms: Forms,
        probes: ProbeAccounts = NO_PROBES,
        families: Sequence[Family] = FAMILIES,
        published: Collection[str] = (),
    ) -> None:
        """Set up with no partition open.

        Args:
            names: Full topic names.
            partitions: Number of partitions of ``mail.deltas``.
            horizon_ms: How long an event id is remembered, by ``received``.
            max_ids: Most ids remembered by all partitions together; beyond, the oldest go.
            tally: Where events are counted, after the commit.
            stats: Where newest times and the state of the seen-sets are shown, after the commit.
            forms: Of the records that are read.
            probes: Whose mail is no customer's.
            families: That are counted.
            published: Those of them whose panes are published, by name.
        """
        self._names = names
        self._horizon_ms = horizon_ms
        self._max_ids = max_ids
        self._tally = tally
        self._stats = stats
        self._heads = Heads(forms)
        self._layout = Layout(families)
        self._transformer = Transformer(probes, self._layout)
        self._combiner = Combiner(partitions, families, published)
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
        headed, refused = self._heads.read_all(records)
        received_ms = np.array([head.received_ms for head in headed.heads], np.int64)
        verdict, transformed, duplicates = self._settle(seen, headed, received_ms)
        counts = _counted(headed, duplicates, transformed)
        refused += [
            Refused(headed.records[place], headed.heads[place].source, error)
            for place, error in transformed.refused.items()
        ]
        columns = Columns(transformed.rows, transformed.event_ms, self._layout)
        fresh_ms = received_ms[np.array(transformed.places, np.intp)]
        outputs: list[Output] = []
        if transformed.places:
            outputs.append(self._events(tp, headed, transformed))
            outputs += self._combined(columns, fresh_ms, tp, verdict, counts)
        outputs.append(self._run(tp, verdict, start, end))
        if refused:
            outputs.append(self._dead(tp, refused, counts))
        newest = newest_times(columns, fresh_ms)

        def on_commit() -> None:
            seen.commit(verdict)
            self._committed(counts, newest)

        return StepResult(outputs, len(transformed.places), on_commit)

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

    def _settle(
        self, seen: SeenSet, headed: Headed, received_ms: Ints
    ) -> tuple[Verdict, Transformed, list[int]]:
        """Return the verdict on the ids, the new events, and the places of the duplicates.

        An id whose record cannot be used is not seen, so a later good one of the same id in the
        batch is new: such ids are judged again without the bad record.
        """
        hashes = hashes_of(headed)
        usable = np.ones(len(hashes), np.bool_)
        transformed = Transformed()
        tried: set[int] = set()
        while True:
            verdict = seen.judge(hashes, received_ms, usable if transformed.refused else None)
            new = np.flatnonzero(verdict.new).tolist()
            pending = [place for place in new if place not in tried] if tried else new
            if not pending:
                break
            self._transform(headed, hashes, pending, transformed, tried)
            if not transformed.refused:
                break
            usable[list(transformed.refused)] = False
        if transformed.refused:
            transformed.keep(set(new))
        return verdict, transformed, np.flatnonzero(usable & ~verdict.new).tolist()

    def _transform(
        self,
        headed: Headed,
        hashes: Hashes,
        places: list[int],
        into: Transformed,
        tried: set[int],
    ) -> None:
        """Transform *places*, and of each id that turns out bad the next ones up to a good one."""
        known = len(into.refused)
        self._transformer.transform(headed, places, into)
        tried.update(places)
        if len(into.refused) == known:
            return
        bad: dict[int, int] = {}
        for place in into.refused:
            number = int(hashes[place])
            bad[number] = min(place, bad.get(number, place))
        good = {int(hashes[place]) for place in into.places}
        for place in np.flatnonzero(np.isin(hashes, np.array(list(bad), np.uint64))).tolist():
            number = int(hashes[place])  # what came before the bad one is a duplicate of another
            if place > bad[number] and place not in tried and number not in good:
                self._transformer.transform(headed, [place], into)
                tried.add(place)
                if place not in into.refused:
                    good.add(number)

    def _events(self, tp: TopicPartition, headed: Headed, transformed: Transformed) -> Output:
        keys = [headed.records[place].key for place in transformed.places]
        records = list(map(OutRecord, transformed.values, keys))
        return Output(self._names.of("events"), tp.partition, records)

    def _combined(
        self,
        columns: Columns,
        received_ms: Ints,
        tp: TopicPartition,
        verdict: Verdict,
        counts: Counts,
    ) -> list[Output]:
        """Return the frames of the new events, and count what the tally shows of them."""
        late = received_ms - columns.event_ms > LATE_AFTER_MS
        combined = self._combiner.combine(columns, ~late, tp, verdict.clock_ms)
        count_events(counts, columns)
        count_late(counts, columns, late)
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


def hashes_of(headed: Headed) -> Hashes:
    """Return ``core.event.id_hash`` of every record."""
    texts = [
        head.id_prefix + event_id.encode()
        for head, event_id in zip(headed.heads, headed.ids, strict=True)
    ]
    return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(texts))


def _counted(headed: Headed, duplicates: Sequence[int], transformed: Transformed) -> Counts:
    """Count the records of a batch that are no new events, or strange ones."""
    counts = Counts()
    for place, why in transformed.skipped.items():
        source = headed.heads[place].source
        if why is Skip.SHADOW:
            counts.add("mail_events_shadow_total", (source,))
        else:
            counts.add("mail_events_ignored_total", (source, why.value))
    for fingerprint in transformed.unclassified.values():
        counts.add("mail_unclassified_replies_total", (fingerprint,))
    for name, places in (
        ("mail_events_duplicate_total", duplicates),
        ("mail_events_future_total", transformed.future),
    ):
        for place in places:
            counts.add(name, (headed.heads[place].source,))
    return counts
