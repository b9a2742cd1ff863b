"""Observations: what the agent writes is what ingest takes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import RecordError
from pipeline.core.observation import MAX_SERIES, encode, heartbeat, observation
from producers.sources.nodes.samples import COUNTER, Family, values

LABELS = st.dictionaries(
    st.sampled_from(["zone", "ip", "domain"]), st.text(st.characters(), max_size=200)
)


@given(st.lists(st.tuples(LABELS, st.floats()), max_size=5), st.sampled_from(["gauge", COUNTER]))
def test_whatever_labels_and_numbers_are_found_can_be_posted(
    found: list[tuple[dict[str, str], float]], kind: str
) -> None:
    family = Family("mail_x", "X.", kind)
    numbers = values(family.sample(value, **labels) for labels, value in found)
    numbers["mail_y"] = 1
    record = {"node": "mta1", "what": "zonemta", "at": "2026-01-02T03:04:05Z", "values": numbers}
    taken = observation(orjson.loads(orjson.dumps(record)))
    assert taken.values == numbers
    assert taken.at == "2026-01-02T03:04:05.000Z"
    assert "@" not in encode(taken).decode()


def test_an_observation_has_at_most_so_many_numbers() -> None:
    family = Family("mail_x", "X.")
    many = values(family.sample(1, n=str(number)) for number in range(MAX_SERIES + 10))
    assert len(many) == MAX_SERIES


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    )
)
def test_anything_else_is_refused(value: object) -> None:
    for read in (observation, heartbeat):
        with pytest.raises(RecordError):
            read(value)
