"""Laws of roll-ups: however a partition was recovered, every tier holds each row once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.delta import VERSION, DeltaFrame, FamilyRows, encode_frame
from pipeline.core.dimensions import chosen
from pipeline.core.families import FAMILIES, FAMILY, KEY_SEPARATOR, Family, Sum
from pipeline.core.pane import FUTURE_AFTER_MS
from pipeline.core.rollup import GRACE_MS, Cut, cut_in, decode_cut, deltas_since, of_use
from pipeline.core.topics import MAX_MESSAGE_BYTES
from pipeline.fold.board import Board
from pipeline.fold.rolling import MOST_ROWS
from tests.kit.frames import FrameRecord, Row, frame
from tests.property.test_distinct_laws import FIELD
from tests.property.test_distinct_laws import WINDOWS as DISTINCT
from tests.property.test_distinct_laws import on_the_board as distinct_on_the_board
from tests.property.test_distinct_laws import recount as distinct_recount
from tests.property.test_fold_laws import (
    HOUR,
    MINUTE,
    NOW,
    ROWS,
    SECOND,
    assert_equal_to_the_recount,
)

WINDOWS = (
    (MINUTE, 5 * MINUTE, HOUR, 24 * HOUR),
    (5 * MINUTE, HOUR),
    (HOUR, 65 * MINUTE),
    (24 * HOUR,),
)

MARGIN = FUTURE_AFTER_MS + GRACE_MS
"""How much newer than their record rows may be; the tests' are."""


class Fold(NamedTuple):
    """Rows that arrive in one record; their times are as if the clock still showed :data:`NOW`."""

    rows: Sequence[Row]


class Pass(NamedTuple):
    """Time passes."""

    by_ms: int


class Clock(NamedTuple):
    """The worker's clock goes wrong by so much, or right again; a new worker's is right."""

    wrong_ms: int


class RollUp(NamedTuple):
    """The partition is asked for a roll-up, which may fail to commit."""

    caught_up: bool
    late: bool
    committed: bool


class Recover(NamedTuple):
    """The partition moves: it is recovered from roll-ups and deltas, in chunks of a size."""

    chunk: int
    read_between: bool
    anew: bool = False
    """The roll-ups are of no use: the deltas are read alone, and a new epoch begins."""


Step = Fold | Pass | Clock | RollUp | Recover

TOLD = st.builds(
    lambda row, values: row._replace(values={FIELD: values}),
    ROWS,
    st.lists(st.sampled_from("vwxyz"), max_size=3),
)
"""Rows that also tell distinct values."""
RECOVER = st.builds(
    Recover, st.integers(1, 4), st.booleans(), st.sampled_from((False, False, False, True))
)
CLOCK = st.builds(
    Clock,
    st.one_of(
        st.just(0),
        st.integers(0, 3 * HOUR),
        st.sampled_from((50 * MINUTE, HOUR, 23 * HOUR, 25 * HOUR)),
    ),
)
ANY = st.one_of(
    st.lists(TOLD, min_size=1, max_size=6).map(Fold),
    st.one_of(
        st.integers(0, 10 * MINUTE),
        st.sampled_from((10 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, HOUR, 25 * HOUR)),
    ).map(Pass),
    st.builds(RollUp, st.booleans(), st.booleans(), st.booleans()),
    RECOVER,
    CLOCK,
)
DUE = RollUp(caught_up=True, late=True, committed=True)
SOON = st.sampled_from((10 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 7 * MINUTE)).map(Pass)
OLD = st.lists(
    st.builds(
        lambda row, age: row._replace(event_ms=NOW - age),
        TOLD,
        st.one_of(st.integers(0, 15 * MINUTE), st.integers(0, 70 * MINUTE)),
    ),
    min_size=1,
    max_size=4,
).map(Fold)


@st.composite
def lives(draw: st.DrawFn) -> list[Step]:
    """Draw what a partition lives through: mostly panes that close, late rows of them, recoveries."""
    steps: list[Step] = [draw(OLD)]
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            steps.append(draw(ANY))
        steps += [draw(SOON), DUE]
        turns: list[st.SearchStrategy[Step]] = [OLD, st.just(DUE), RECOVER, SOON, st.just(DUE)]
        if not draw(st.integers(0, 3)):
            steps += [draw(CLOCK), draw(OLD), DUE, draw(CLOCK), draw(SOON), draw(OLD), DUE]
        steps += [draw(turn) for turn in turns if draw(st.integers(0, 3))]
    return steps


STEPS = st.one_of(lives(), st.lists(ANY, max_size=20))


class Partition:
    """One partition with its two logs, as the transport would drive it."""

    def __init__(
        self, windows: Sequence[int], families: Sequence[Family] = FAMILIES, now: int = NOW
    ) -> None:
        self.windows, self.families = windows, families
        self.now = now
        self.wrong = 0
        """How much the worker's clock is ahead."""
        self.rows: list[Row] = []
        self.deltas: list[FrameRecord] = []
        self.rollups: list[FrameRecord] = []
        self.cut: Cut | None = None
        self.board = self._opened()
        self.board.complete(0)

    def _opened(self) -> Board:
        board = Board(self.windows, self.families)
        board.open(0)
        board.advance(self.clock)
        return board

    @property
    def clock(self) -> int:
        return self.now + self.wrong

    def fold(self, rows: Sequence[Row]) -> None:
        moved = [row._replace(event_ms=row.event_ms + self.now - NOW) for row in rows]
        self.rows.extend(moved)
        self.take(frame({"user": moved, "ip": moved}, watermark_ms=self.now).value)

    def take(self, value: bytes | None) -> None:
        record = FrameRecord(value, len(self.deltas), self.now)
        self.deltas.append(record)
        self.board.fold(0, [record], self.clock)

    def roll_up(self, *, caught_up: bool, late: bool, committed: bool) -> None:
        until = self.board.closing(0, self.clock, self.now, caught_up=caught_up, late=late)
        if until is None:
            return
        cut = Cut(self.board.schema, "e", "t", until, len(self.deltas))
        frames = [
            FrameRecord(value, timestamp=self.clock, headers=cut.headers(length))
            for length, value in self.board.rollup(0, until)
        ]
        assert frames
        assert decode_cut(cut.deltas_end, cut.encode()) == cut
        assert all(cut_in(frame.headers) == cut for frame in frames)
        if committed:
            before = self.cut.closed_until if self.cut is not None else dict.fromkeys(until, 0)
            assert all(until[length] >= before[length] for length in until)
            self.rollups.extend(frames)
            self.cut = cut
            self.board.rolled_up(0, until)

    def is_needed(self, record: FrameRecord) -> bool:
        if self.cut is None:
            return True
        since_ms = deltas_since(self.cut, self.now, MARGIN)
        return record.offset >= self.cut.deltas_end or (record.timestamp or 0) >= since_ms

    def assert_right(self) -> None:
        now = self.board.now_ms
        assert now >= self.now
        assert_equal_to_the_recount(self.board, self.rows, now, self.windows)
        windows = [window for window in DISTINCT if window in self.windows]
        shown = distinct_on_the_board(self.board, windows)
        assert shown == distinct_recount(self.rows, now, windows)

    def forget(self) -> None:
        self.rollups, self.cut = [], None

    def recover(self, chunk: int, *, read_between: bool) -> None:
        self.wrong = 0
        self.board = board = self._opened()
        if self.cut is not None:
            frames = [one.value or b"" for one in self.rollups if of_use(one, self.now)]
            board.restore(0, frames, self.now)
            board.follow(0, self.cut)
        read = [record for record in self.deltas if self.is_needed(record)]
        for start in range(0, len(read), chunk):
            board.fold(0, read[start : start + chunk], self.now)
            if read_between:
                board.settle("user", 0)
        board.complete(0)


@settings(max_examples=500)
@given(STEPS, st.sampled_from(WINDOWS))
@example(  # a frame of a minute that is almost an hour old
    [
        Fold([Row(("a",), "sent", NOW, values={FIELD: "v"})]),
        Pass(2 * MINUTE),
        DUE,
        Pass(56 * MINUTE),
    ],
    WINDOWS[0],
)
@example(  # a record older than all that is not closed, with a row of the last minutes
    [Pass(3 * MINUTE), Fold([Row(("a",), "sent", NOW + 210 * SECOND)]), Pass(8 * MINUTE), DUE],
    WINDOWS[0],
)
def test_windows_hold_what_the_recount_says_however_often_recovered(
    steps: Sequence[Step], windows: Sequence[int]
) -> None:
    partition = Partition(windows)
    for step in steps:
        match step:
            case Fold(rows):
                partition.fold(rows)
            case Pass(by_ms):
                partition.now += by_ms
                partition.board.advance(partition.clock)
            case Clock(wrong_ms):
                partition.wrong = wrong_ms
                partition.board.advance(partition.clock)
            case RollUp(caught_up, late, committed):
                partition.roll_up(caught_up=caught_up, late=late, committed=committed)
            case Recover(chunk, read_between, anew):
                if anew:
                    partition.forget()
                partition.recover(chunk, read_between=read_between)
        partition.assert_right()
    partition.recover(3, read_between=False)
    partition.assert_right()
    partition.board.advance(partition.now + 60 * HOUR)
    for share in partition.board.shares("user"):
        assert not share.alive.any()
        assert not any(columns.any() for columns in share.running.values())


def test_a_pane_is_written_once_its_grace_is_over_and_late_rows_as_an_addition() -> None:
    partition = Partition(WINDOWS[0])
    partition.fold([Row(("a",), "sent", NOW)])
    partition.now += 2 * MINUTE
    partition.roll_up(caught_up=True, late=True, committed=True)
    assert partition.cut is not None
    assert partition.cut.closed_until == {MINUTE: NOW + MINUTE, 5 * MINUTE: 0}
    assert len(partition.rollups) == 1
    partition.fold([Row(("a",), "sent", NOW - 2 * MINUTE)])  # of the closed minute
    partition.now += 4 * MINUTE
    partition.roll_up(caught_up=True, late=False, committed=True)
    assert len(partition.rollups) == 1
    partition.now += MINUTE
    partition.roll_up(caught_up=True, late=True, committed=True)
    assert partition.cut.closed_until == {MINUTE: NOW + MINUTE, 5 * MINUTE: NOW + 5 * MINUTE}
    assert len(partition.rollups) == 3


def test_late_rows_are_in_one_addition_only() -> None:
    partition = Partition(WINDOWS[0])
    partition.fold([Row(("a",), "sent", NOW)])
    for _ in range(3):
        partition.now += 7 * MINUTE
        partition.roll_up(caught_up=True, late=True, committed=True)
        partition.fold([Row(("a",), "sent", NOW - 7 * MINUTE)])
        partition.now += 2 * MINUTE
        partition.roll_up(caught_up=True, late=True, committed=True)
    partition.recover(1, read_between=True)
    assert_equal_to_the_recount(partition.board, partition.rows, partition.now, WINDOWS[0])


def test_frames_are_small_however_much_a_pane_holds() -> None:
    partition = Partition(WINDOWS[0])
    many = [Row((f"user{n}@example.com",), "sent", NOW) for n in range(12_000)]
    crowded = [
        Row((f"user{n}@example.com",), kind, NOW, values={FIELD: [f"v{v}" for v in range(1000)]})
        for n in range(120)
        for kind in ("bounced", "sent")
    ]
    partition.fold([*many, *crowded])
    partition.now += 7 * MINUTE
    partition.roll_up(caught_up=True, late=True, committed=True)
    assert len(partition.rollups) > 3
    assert max(len(one.value or b"") for one in partition.rollups) < 3_000_000
    partition.recover(1, read_between=False)
    partition.assert_right()


def crowd(keys: Sequence[str], at_ms: int, watermark_ms: int, family: Family) -> bytes:
    """Return a frame with one event of each of these keys."""
    many = len(keys)
    rows = FamilyRows.of(
        family.name,
        keys,
        np.arange(many),
        np.zeros(many),
        np.full(many, at_ms // (10 * SECOND)),
        dict.fromkeys(family.sums, np.ones(many, np.int64)),
    )
    return encode_frame(DeltaFrame(VERSION, "raw.zonemta", 0, watermark_ms, [rows]))


def test_one_roll_up_has_a_bounded_number_of_rows() -> None:
    partition = Partition(WINDOWS[0])
    users = MOST_ROWS // 2
    keys = [f"user{number}" for number in range(users)]
    for age in (30 * MINUTE, 25 * MINUTE, 20 * MINUTE):
        partition.take(crowd(keys, NOW - age, NOW, FAMILY["user"]))
    for closed_ms in NOW - 20 * MINUTE, NOW - 5 * MINUTE:
        partition.roll_up(caught_up=True, late=True, committed=True)
        assert partition.cut is not None
        assert partition.cut.closed_until[5 * MINUTE] == closed_ms
    partition.recover(9, read_between=False)
    totals = partition.board.totals(FAMILY["user"], 24 * HOUR)
    assert totals.sums[Sum.COUNT].sum() == 3 * users


def test_frames_fit_into_a_topic_however_long_keys_are() -> None:
    pair = chosen(dimensions={"pair": ("user", "from_address")})[-1]
    partition = Partition(WINDOWS[0], [FAMILY["user"], pair])
    users = 5_000
    long = "\N{GOTHIC LETTER AHSA}" * 300
    keys = [f"{number}{long}{KEY_SEPARATOR}{long}" for number in range(users)]
    for start in range(0, users, 1_000):  # a frame of the deltas is as small
        some = slice(start, start + 1_000)
        partition.take(crowd(keys[some], NOW, NOW + 7 * MINUTE, pair))
    partition.now += 7 * MINUTE
    partition.roll_up(caught_up=True, late=True, committed=True)
    assert max(len(one.value or b"") for one in partition.rollups) < MAX_MESSAGE_BYTES - 1000
    partition.recover(9, read_between=False)
    assert partition.board.totals(pair, 24 * HOUR).sums[Sum.COUNT].sum() == users


def test_values_are_told_with_their_keys_where_long_keys_are_split() -> None:
    partition = Partition(WINDOWS[0])
    long = "x" * 300
    for start in range(0, 4_000, 200):
        many = [
            Row(
                (f"{number}{long}",),
                kind,
                NOW,
                values={FIELD: [f"v{v}" for v in range(number % 4)]},
            )
            for number in range(start, start + 200)
            for kind in ("bounced", "sent")
        ]
        partition.fold(many)
    partition.now += 7 * MINUTE
    partition.roll_up(caught_up=True, late=True, committed=True)
    partition.now += 20 * MINUTE  # what was told in the last minutes is read again
    partition.recover(1, read_between=False)
    partition.assert_right()
