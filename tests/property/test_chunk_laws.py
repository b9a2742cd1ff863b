"""Laws of cutting records into runs: nothing is lost or moved, and only the last one may be small."""

from __future__ import annotations

from itertools import chain

from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.batch import chunks

VALUES = st.lists(st.one_of(st.none(), st.binary(max_size=20)))


def record(value: bytes | None) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("t", 0, 0, 0, 0, None, value, None, 0, 0, ())


@given(VALUES, st.integers(1, 50))
def test_runs_are_the_records_again_and_end_as_soon_as_they_are_full(
    values: list[bytes | None], most: int
) -> None:
    runs = [[one.value for one in run] for run in chunks([*map(record, values)], most)]
    assert list(chain(*runs)) == values
    assert all(runs)
    for place, run in enumerate(runs):
        sizes = [len(value or b"") for value in run]
        assert sum(sizes[:-1]) < most
        assert sum(sizes) >= most or place == len(runs) - 1
