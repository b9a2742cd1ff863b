"""The metadata of a committed offset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.transport.mark import Mark, decode_mark

TIMES = st.integers(0, 2**53)


@given(TIMES, TIMES | st.none())
def test_a_mark_survives_being_metadata(commit_ms: int, received_ms: int | None) -> None:
    mark = Mark.now(commit_ms, received_ms)
    assert decode_mark(mark.encode()) == mark
    assert mark.received_ms <= mark.commit_ms
    assert len(mark.encode()) < 200  # Kafka takes 4096 bytes


def test_no_two_commits_have_the_same_mark() -> None:
    assert Mark.now(1, 1) != Mark.now(1, 1)


@given(st.text())
def test_foreign_metadata_is_no_mark(metadata: str) -> None:
    mark = decode_mark(metadata)
    assert mark is None or metadata.startswith("1 ")
