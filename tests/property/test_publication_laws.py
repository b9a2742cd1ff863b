"""Laws of what is published: each event is in the records of its pane once, whatever is lived through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.batch import TopicPartition
from pipeline.core.event import MailEvent
from pipeline.core.pane import FUTURE_AFTER_MS
from pipeline.core.publication import PUBLISHED
from pipeline.core.published import PublishedPane, records_of
from pipeline.core.rollup import GRACE_MS, PANES_TIER, Cut, decode_cut, deltas_since, of_use
from pipeline.core.timestamp import rfc3339
from pipeline.enrich.columns import LAYOUT, Columns
from pipeline.enrich.combine import Combiner
from pipeline.fold import publishing
from pipeline.fold.board import Board
from tests.kit.frames import FrameRecord
from tests.kit.oracle import HOUR, MINUTE, SECOND
from tests.kit.published import PANE_MS, added_up, recount

decode_pane = msgspec.json.Decoder(PublishedPane).decode

NOW = 1_700_000_100_000
WINDOWS = ((MINUTE, 5 * MINUTE, HOUR, 24 * HOUR), (5 * MINUTE,), (HOUR,), (24 * HOUR,))
MARGIN = FUTURE_AFTER_MS + GRACE_MS


class One(NamedTuple):
    """One event; *age_ms* is counted from when its batch is committed."""

    kind: str
    user: str | None
    ip: str | None
    provider: str
    age_ms: int
    recipients: int | None
    size: int | None
    took_ms: float | None
    source: str


class Batch(NamedTuple):
    """Events that one transaction of phase 1 commits."""

    events: Sequence[One]


class Pass(NamedTuple):
    """Time passes."""

    by_ms: int


class RollUp(NamedTuple):
    """The partition is asked for a roll-up, which may fail to commit."""

    late: bool = True
    committed: bool = True
    alone: bool = False
    """Nothing is due: the position is committed with something else."""


class Recover(NamedTuple):
    """The worker dies; another one may have other windows, so that its epoch is another."""

    windows: Sequence[int]
    chunk: int


EVENT = st.builds(
    One,
    st.sampled_from(("sent", "delivered", "delivered", "bounced", "deferred")),
    st.sampled_from(("ann", "bob", None)),
    st.sampled_from(("10.0.0.1", "10.0.0.2", None)),
    st.sampled_from(("google", "other")),
    st.one_of(st.integers(0, 12 * MINUTE), st.integers(0, 23 * HOUR)),
    st.sampled_from((None, 1, 3)),
    st.sampled_from((None, 0, 2048)),
    st.sampled_from((None, 0, 100, 100.5, 250, 7_200_000, 7_200_001)),
    st.sampled_from(("zonemta", "cpanel")),
)
STEP = st.one_of(
    st.lists(EVENT, min_size=1, max_size=5).map(Batch),
    st.sampled_from((10 * SECOND, MINUTE, 5 * MINUTE, 7 * MINUTE, HOUR)).map(Pass),
    st.builds(RollUp, st.booleans(), st.booleans(), st.booleans()),
    st.just(RollUp()),
    st.builds(Recover, st.sampled_from(WINDOWS), st.integers(1, 3)),
)


def stored(one: One, now_ms: int) -> dict[str, Any]:
    """Return the event as ``mail.events`` would have it."""
    event = MailEvent(
        source=one.source,
        event_type=one.kind,
        direction="outbound",
        timestamp=rfc3339(now_ms - one.age_ms),
        received=rfc3339(now_ms),
        user=one.user,
        sending_ip=one.ip,
        provider=one.provider,
        recipients=one.recipients,
        size_bytes=one.size,
        delivery_time_ms=one.took_ms,
    )
    found: dict[str, Any] = json.loads(msgspec.json.encode(event))
    return found


class Partition:
    """One partition with its two logs, as workers would drive it."""

    def __init__(self, windows: Sequence[int]) -> None:
        self.now = NOW
        self.combiner = Combiner(1, published=PUBLISHED)
        self.events: list[dict[str, Any]] = []
        self.deltas: list[FrameRecord] = []
        self.published: list[bytes] = []
        self.cut: Cut | None = None
        self.board = self._opened(windows)
        self.board.complete(0)

    def _opened(self, windows: Sequence[int]) -> Board:
        board = Board(windows, publishes=True)
        board.open(0)
        board.advance(self.now)
        return board

    def batch(self, ones: Sequence[One]) -> None:
        events = [stored(one, self.now) for one in ones]
        self.events += events
        rows = [LAYOUT.row_of(msgspec.convert(event, MailEvent)) for event in events]
        columns = Columns(rows, [self.now - one.age_ms for one in ones])
        everything = columns.event_type >= 0
        combined = self.combiner.combine(columns, everything, TopicPartition("raw", 0), self.now)
        for value in combined.frames.values():
            record = FrameRecord(value, len(self.deltas), self.now)
            self.deltas.append(record)
            self.board.fold(0, [record], self.now)

    def roll_up(self, *, late: bool = True, committed: bool = True, alone: bool = False) -> bool:
        until = (
            self.board.closing(0, self.now, self.now, caught_up=True, late=late)
            if not alone
            else None
        )
        if alone:  # what is late goes with every commit of the position
            until = dict(self.board._held(0).rolling._closed)
        if until is None:
            return False
        before = {} if self.cut is None else self.cut.closed_until
        assert until[PANES_TIER] >= before.get(PANES_TIER, 0)
        cut = Cut(self.board.schema, "e", "t", until, len(self.deltas))
        assert decode_cut(cut.deltas_end, cut.encode()) == cut
        frames = list(self.board.rollup(0, until))
        assert frames or alone
        if committed:
            for tier, value in frames:
                record = FrameRecord(value, timestamp=self.now, headers=cut.headers(tier))
                if tier == PANES_TIER:
                    assert not of_use(record, self.now)
                    self._publish(value, before.get(PANES_TIER, 0))
            self.cut = cut
            self.board.rolled_up(0, until)
        return True

    def _publish(self, frame: bytes, closed_ms: int) -> None:
        assert list(records_of(frame)) == list(records_of(frame))
        for key, value in records_of(frame):
            pane = decode_pane(value)
            assert json.loads(key) == [pane.family, pane.key, pane.event_type]
            late = closed_ms > _start(value)
            assert pane.partial == late
            self.published.append(value)

    def recover(self, windows: Sequence[int], chunk: int) -> None:
        """Recover as the transport does: without frames of windows, which are another's matter."""
        self.board = board = self._opened(windows)
        read = self.deltas
        if self.cut is not None:
            board.publish_from(0, self.cut)
            since_ms = min(deltas_since(self.cut, self.now, MARGIN), self.cut.panes_until - MARGIN)
            read = [
                one
                for one in self.deltas
                if one.offset >= self.cut.deltas_end or (one.timestamp or 0) >= since_ms
            ]
        for start in range(0, len(read), chunk):
            board.fold(0, read[start : start + chunk], self.now)
        board.complete(0)

    def finish(self) -> None:
        """Let everything be closed and written, though nothing comes any more."""
        for passed in 0, 7 * 24 * HOUR:
            self.now += passed
            while self.roll_up():
                pass


def _start(value: bytes) -> int:
    (slot,) = added_up([value])
    return slot[3]


@settings(max_examples=400)
@given(st.lists(STEP, max_size=25), st.sampled_from(WINDOWS), st.sampled_from((1, 3, 8192)))
def test_records_add_up_to_the_recount_through_restarts_and_epochs(
    steps: Sequence[Batch | Pass | RollUp | Recover], windows: Sequence[int], rows: int
) -> None:
    partition = Partition(windows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "SETTLE_ROWS", rows)
        patch.setattr(publishing, "FREE_SLOTS", rows)
        for step in steps:
            match step:
                case Batch(events):
                    partition.batch(events)
                case Pass(by_ms):
                    partition.now += by_ms
                case RollUp(late, committed, alone):
                    partition.roll_up(late=late, committed=committed, alone=alone)
                case Recover(others, chunk):
                    partition.recover(others, chunk)
        partition.finish()
    assert added_up(partition.published) == recount(partition.events)


@given(st.lists(EVENT, min_size=1, max_size=30), st.lists(st.integers(1, 10), min_size=1))
def test_how_events_come_in_batches_does_not_show(
    ones: Sequence[One], sizes: Sequence[int]
) -> None:
    whole, split = Partition(WINDOWS[0]), Partition(WINDOWS[0])
    whole.batch(ones)
    rest, turn = list(ones), 0
    while rest:
        size = sizes[turn % len(sizes)]
        split.batch(rest[:size])
        rest, turn = rest[size:], turn + 1
    for partition in whole, split:
        partition.finish()
    assert sorted(whole.published) == sorted(split.published)


def test_a_pane_with_more_keys_than_a_frame_is_told_in_records_of_whole_keys() -> None:
    partition = Partition(WINDOWS[0])
    for number in range(13_000):
        partition.batch(
            [
                One("delivered", f"user{number}", None, "other", 0, None, None, took, "zonemta")
                for took in (None, 50, 99_000)
            ]
            if number % 500 == 0
            else [One("sent", f"user{number}", None, "other", 0, None, None, None, "zonemta")]
        )
    partition.finish()
    assert added_up(partition.published) == recount(partition.events)
    slots = [json.loads(value) for value in partition.published]
    assert len({(one["family"], *one["key"], one["event_type"]) for one in slots}) == len(slots)


def test_what_is_known_to_lack_rows_says_so() -> None:
    partition = Partition(WINDOWS[0])
    one = One("sent", "ann", None, "other", 0, None, None, None, "zonemta")
    partition.board.lack(0, NOW + PANE_MS)
    partition.batch([one])
    partition.now += 2 * PANE_MS
    partition.batch([one])
    partition.now += 10 * MINUTE
    until = partition.board.closing(0, partition.now, partition.now, caught_up=True, late=True)
    assert until is not None
    told = [
        decode_pane(value)
        for tier, frame in partition.board.rollup(0, until)
        if tier == PANES_TIER
        for _, value in records_of(frame)
    ]
    assert [pane.partial for pane in told] == [True, False]
