"""Both phases and their roll-ups, without Kafka: whatever moved when, each family equals the recount.

Three workers hold a partition of the deltas each.  Source partitions lag behind and catch up, hours
pass, roll-ups succeed and fail, partitions move and are recovered from frames and deltas.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailstream.simulation.probes import ProbePlan, probes
from pipeline.core.batch import TopicPartition
from pipeline.core.dimensions import chosen
from pipeline.core.engine_stats import EngineStats
from pipeline.core.event import partition_of
from pipeline.core.families import Sum
from pipeline.core.tally import Tally
from pipeline.enrich.forms import forms
from pipeline.enrich.probes import ProbeAccounts
from pipeline.enrich.step import Enricher
from tests.kit.oracle import HOUR, MINUTE, WINDOWS, Posted, Recount, Series, is_customer, span
from tests.kit.raw_log import RawRecord, probe_record, raw_record
from tests.kit.scrape import differences
from tests.kit.traffic import CLASSES, Event, Shape, Varied, with_repeats
from tests.property.test_phases_equal_the_recount import (
    NAMES,
    NOW,
    PARTITIONS,
    PROBES,
    Stored,
    logins,
    shown,
)
from tests.property.test_rollup_laws import Partition

PAIR = "pair"
FAMILIES = chosen(dimensions={PAIR: ("from_domain", "to_domain")})
SECOND = 1000


class Turn(NamedTuple):
    """What happens in a stretch of time."""

    pass_ms: int
    events: int
    silent: Sequence[bool]
    """By source partition: nothing of it is worked off in this turn."""
    roll_ups: int
    committed: bool
    moved: Sequence[bool]
    """By partition of the deltas: it moves to another worker, after the roll-ups."""


TURNS = st.lists(
    st.builds(
        Turn,
        st.sampled_from((SECOND, 20 * SECOND, MINUTE, 3 * MINUTE, 11 * MINUTE, HOUR, 9 * HOUR)),
        st.integers(0, 60),
        st.lists(st.booleans(), min_size=PARTITIONS, max_size=PARTITIONS),
        st.integers(0, 4),
        st.integers(0, 4).map(bool),
        st.lists(st.booleans(), min_size=PARTITIONS, max_size=PARTITIONS),
    ),
    min_size=1,
    max_size=10,
)
ALL, NONE = (True,) * PARTITIONS, (False,) * PARTITIONS
HOURS_BACKLOG = (
    *(Turn(MINUTE, 40, NONE, 1, committed=True, moved=NONE) for _ in range(10)),
    *(Turn(MINUTE, 40, ALL, 1, committed=True, moved=NONE) for _ in range(60)),
    Turn(SECOND, 1, (False, True, True), 2, committed=True, moved=ALL),
    Turn(SECOND, 1, (False, False, True), 2, committed=True, moved=ALL),
    Turn(MINUTE, 1, NONE, 2, committed=True, moved=ALL),
)
"""Workers are away for an hour; then fresh ones read what came meanwhile, one source after another."""


class Life:
    """The raw log, phase 1 over it, and the workers' partitions."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.now = NOW
        self.posted: list[Posted] = []
        self._made = Varied(
            seed=seed, now_ms=NOW, spread_ms=8 * MINUTE, ahead_ms=MINUTE, shape=Shape(20, 4)
        )
        self._log: dict[TopicPartition, list[RawRecord]] = defaultdict(list)
        self._read: Counter[TopicPartition] = Counter()
        self._enricher = Enricher(
            NAMES,
            PARTITIONS,
            horizon_ms=6 * HOUR,
            max_ids=1_000_000,
            tally=Tally(max_values=10_000),
            stats=EngineStats(session_timeout_ms=10_000),
            forms=forms(),
            probes=ProbeAccounts(PROBES),
            families=FAMILIES,
        )
        self.workers = [
            Partition(tuple(WINDOWS.values()), FAMILIES, NOW) for _ in range(PARTITIONS)
        ]

    def live(self, turn: Turn, number: int) -> None:
        self.advance(turn.pass_ms)
        self._post(turn.events, number)
        self._work_off([number for number, silent in enumerate(turn.silent) if not silent])
        for worker, moved in zip(self.workers, turn.moved, strict=True):
            for _ in range(turn.roll_ups):
                # Whether the log was read to its end is told now and then, late rows always.
                caught_up = bool(self.rnd.getrandbits(1))
                worker.roll_up(caught_up=caught_up, late=True, committed=turn.committed)
            if moved:
                worker.recover(self.rnd.randint(1, 9), read_between=bool(self.rnd.getrandbits(1)))

    def advance(self, by_ms: int) -> None:
        self.now += by_ms
        for worker in self.workers:
            worker.now = self.now
            worker.board.advance(self.now)

    def _post(self, count: int, number: int) -> None:
        self._made.now_ms = self.now
        for source, make in (("zonemta", self._made.zonemta), ("haraka", self._made.haraka)):
            events: list[Event] = [make() for _ in range(count)]
            for login in logins(self.rnd.getrandbits(30), count // 5):
                happened = self.now - self.rnd.randrange(20 * MINUTE)
                named = f"{source}-{number}-{login['seq']}"
                events.append(login | {"timestamp": happened / SECOND, "event_id": named})
            for event in events:
                event.setdefault("event_id", f"{event['queue_id']}.{event['seq']}")
            for event in with_repeats(events, count // 10, number):
                self._write(f"raw.{source}", raw_record(event, source, self.now))
                self.posted.append(Posted(event, source, self.now))
        plan = ProbePlan(number, self.now - 2 * MINUTE, MINUTE if count else 1)
        for one in probes(plan):
            self._write("raw.probe", probe_record(one.record, one.origin, self.now))
            self.posted.append(Posted(one.record, "probe", self.now, origin=one.origin))

    def _write(self, topic: str, record: RawRecord) -> None:
        tp = TopicPartition(NAMES.of(topic), partition_of(record.key, PARTITIONS))
        if tp not in self._log:
            self._enricher.open(tp)
        self._log[tp].append(record)

    def _work_off(self, numbers: Sequence[int]) -> None:
        for tp in sorted(self._log):
            if tp.partition in numbers:
                for number, value in self._frames(tp):
                    self.workers[number].take(value)

    def _frames(self, tp: TopicPartition) -> Iterator[tuple[int, bytes]]:
        """Yield what phase 1 makes of what it has not read of a source partition, in batches."""
        records = self._log[tp]
        while (start := self._read[tp]) < len(records):
            end = self._read[tp] = min(len(records), start + self.rnd.randint(1, 50))
            read = [
                Stored(offset, one.value, one.key, one.headers, one.at_ms)
                for offset, one in enumerate(records[start:end], start)
            ]
            result = self._enricher.on_batch(tp, read, start, end, self.now)
            result.on_commit()
            for output in result.outputs:
                if output.topic == NAMES.of("deltas"):
                    yield from ((output.partition, record.value) for record in output.records)

    def assert_right(self) -> None:
        self._work_off(range(PARTITIONS))
        recount = Recount(self.posted, CLASSES, PROBES)
        expected = recount.at(self.now) | pairs(recount, self.now)
        together: dict[tuple[str, Series], int] = {}
        for worker in self.workers:
            together |= shown(worker.board)
        assert differences(expected, together) == []


def pairs(recount: Recount, now_ms: int) -> dict[tuple[str, Series], int]:
    """Return what the configured dimension must show."""
    counts: Counter[tuple[str, Series]] = Counter()
    for window, length in WINDOWS.items():
        first, end = span(length, now_ms)
        for fact in recount.facts:
            key = fact.from_domain, fact.to_domain
            pane_ms = fact.event_ms - fact.event_ms % (10 * SECOND)
            if is_customer(fact) and not fact.late and first <= pane_ms < end and None not in key:
                series = Series("mail_pair_events", (*map(str, key), fact.event_type))
                counts[window, series] += 1
    return dict(counts)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), turns=TURNS)
@example(seed=1, turns=HOURS_BACKLOG)
def test_every_family_equals_the_recount_however_often_its_partitions_moved(
    seed: int, turns: Sequence[Turn]
) -> None:
    life = Life(seed)
    for number, turn in enumerate(turns):
        life.live(turn, number)
    life.assert_right()
    for worker in life.workers:
        worker.recover(3, read_between=False)
    life.assert_right()
    life.advance(2 * MINUTE)
    for worker in life.workers:
        worker.roll_up(caught_up=True, late=True, committed=True)
        worker.recover(5, read_between=True)
    life.assert_right()


def test_every_family_is_told_by_such_a_life() -> None:
    life = Life(seed=1)
    for number in range(20):
        life.live(Turn(MINUTE, 40, NONE, 1, committed=True, moved=NONE), number)
    for worker in life.workers:
        assert worker.cut is not None
        worker.recover(9, read_between=False)
    for family in FAMILIES:
        totals = [
            worker.board.totals(family, WINDOWS["24h"]).sums[Sum.COUNT].sum()
            for worker in life.workers
        ]
        assert sum(totals) > 0, family.name
