"""Bad records are found by bisection; the others are committed in order, once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.batch import Record
from pipeline.core.errors import InvariantError
from pipeline.transport.bisect import MINUTE_S, Piece, PoisonRate, settle
from tests.kit.plain import records


class Book:
    """A desk that keeps what was committed, and refuses the given offsets."""

    def __init__(self, bad: set[int]) -> None:
        self._bad = bad
        self.kept: list[int] = []
        self.aside: list[int] = []
        self.position = 0

    async def compute(self, piece: Piece) -> Piece:
        assert piece.start == self.position
        if any(record.offset in self._bad for record in piece.records):
            raise ValueError("bad")
        return piece

    async def commit(self, work: Piece) -> None:
        offsets = [record.offset for record in work.records]
        (self.aside if self._bad.intersection(offsets) else self.kept).extend(offsets)
        self.position = work.end

    def set_aside(self, record: Record, error: Exception) -> Piece:
        assert str(error) == "bad"
        return Piece([record], self.position, record.offset + 1)


@given(st.integers(0, 60), st.sets(st.integers(0, 60)))
def test_exactly_the_bad_records_are_set_aside(count: int, bad: set[int]) -> None:
    book = Book(bad)
    asyncio.run(settle(book, Piece(records(0, count), 0, count)))
    assert book.kept == [offset for offset in range(count) if offset not in bad]
    assert book.aside == [offset for offset in range(count) if offset in bad]
    assert book.position == count


def test_a_good_batch_is_one_commit() -> None:
    book = Book(set())
    asyncio.run(settle(book, Piece(records(0, 10), 0, 12)))
    assert book.position == 12


def test_broken_state_is_not_bisected() -> None:
    class Broken(Book):
        async def compute(self, piece: Piece) -> Piece:
            raise InvariantError("broken")

    book = Broken(set())
    with pytest.raises(InvariantError, match="broken"):
        asyncio.run(settle(book, Piece(records(0, 4), 0, 4)))
    assert book.aside == []


def test_a_failure_without_a_record_is_no_bad_record() -> None:
    class Failing(Book):
        async def compute(self, piece: Piece) -> Piece:
            raise ValueError("nothing to blame")

    with pytest.raises(InvariantError, match="nothing to blame"):
        asyncio.run(settle(Failing(set()), Piece([], 0, 3)))


def test_more_than_the_allowed_bad_records_in_a_minute_are_refused() -> None:
    rate = PoisonRate(3)
    for at in range(3):
        assert rate.count(at, offset=at)
    with pytest.raises(InvariantError, match="more than 3 records a minute"):
        rate.count(MINUTE_S - 0.1, offset=3)
    assert rate.count(MINUTE_S, offset=3)


def test_a_bad_record_that_is_read_again_because_its_commit_failed_counts_once() -> None:
    rate = PoisonRate(1)
    assert [rate.count(at, offset=7) for at in range(5)] == [True, False, False, False, False]
