"""What is gathered for consumers, by itself: slots are freed in parts, and used again meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest

from pipeline.core.delta import FamilyRows
from pipeline.core.errors import InvariantError
from pipeline.core.publication import (
    FIRST_BUCKET,
    PUBLISHED_MS,
    FamilyPanes,
    PaneRows,
    decode_panes,
    encode_panes,
)
from pipeline.core.published import PublishedPane, records_of
from pipeline.fold import publishing
from pipeline.fold.publishing import Publishing

Told = Counter[tuple[str, str]]


def rows(pane: int, events: Mapping[str, int]) -> FamilyRows:
    """Return so many events of each user in one pane."""
    keys = list(events)
    index, counts = np.arange(len(keys)), np.array(list(events.values()), np.int64)
    found = FamilyRows.of("user", keys, index[:0], index[:0], index[:0], {})
    nothing = np.zeros(len(keys), np.int64)
    found.panes = PaneRows.of(index, nothing, nothing + pane, [counts, nothing, nothing, nothing])
    return found


class Gathered:
    """A :class:`Publishing` and what it should tell and told."""

    def __init__(self) -> None:
        self.it = Publishing()
        self.wanted: Told = Counter()
        self.told: Told = Counter()

    def add(self, pane: int, **events: int) -> None:
        self.it.add(rows(pane, events))
        for user, count in events.items():
            self.wanted[user, str(pane)] += count

    def close(self, end: int) -> None:
        for frame in self.it.frames(end * PUBLISHED_MS):
            pane = decode_panes(frame).start_ms // PUBLISHED_MS
            for _, value in records_of(frame):
                one = msgspec.json.decode(value, type=PublishedPane)
                self.told[one.key[0], str(pane)] += one.count
        self.it.rolled_up(end * PUBLISHED_MS)


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> Gathered:
    """Free one slot at a time."""
    monkeypatch.setattr(publishing, "FREE_SLOTS", 1)
    return Gathered()


def test_a_slot_that_waits_to_be_freed_and_is_used_again_stays(gathered: Gathered) -> None:
    gathered.add(10, a=1, b=2, c=3)
    gathered.add(20, z=1)  # holds the family
    gathered.close(11)
    gathered.add(20, b=4, c=5)
    for turn in range(6):
        gathered.add(20, **{f"new{turn}": 7})
        gathered.it.settle()
    gathered.close(21)
    assert gathered.told == gathered.wanted


def test_a_slot_that_is_given_up_twice_is_freed_once(gathered: Gathered) -> None:
    gathered.add(10, a=1, b=2, c=3)
    gathered.add(30, z=1)
    gathered.close(11)
    gathered.add(20, b=4, c=4)
    gathered.close(21)
    for _ in range(12):
        gathered.it.settle()
    gathered.add(30, **{f"new{turn}": turn + 1 for turn in range(6)})
    gathered.close(31)
    assert gathered.told == gathered.wanted


def test_every_commit_has_what_came_late(gathered: Gathered) -> None:
    gathered.add(10, a=1)
    gathered.add(11, a=2)
    gathered.close(11)
    gathered.add(10, a=5, b=1)  # nothing is due, and the position is committed
    gathered.close(11)
    assert gathered.told["a", "10"] == 6
    assert gathered.told["b", "10"] == 1
    gathered.close(12)
    assert gathered.told == gathered.wanted


@pytest.mark.parametrize("kind", [FIRST_BUCKET - 1, FIRST_BUCKET + 13, 255])
def test_a_kind_that_does_not_exist_is_told(kind: int) -> None:
    found = rows(10, {"a": 1})
    assert found.panes is not None
    found.panes.kind = bytes([kind])
    held = Publishing()
    held.add(found)
    with pytest.raises(InvariantError):
        held.settle()


def test_columns_of_unequal_length_are_told() -> None:
    found = rows(10, {"a": 1, "b": 1})
    assert found.panes is not None
    found.panes.pane = found.panes.pane[:4]
    with pytest.raises(InvariantError):
        Publishing().add(found)


def test_a_frame_whose_rows_name_no_key_is_told() -> None:
    found = rows(10, {"a": 1})
    assert found.panes is not None
    frame = encode_panes(0, [FamilyPanes("user", [], found.panes)], partial=False)
    with pytest.raises(InvariantError):
        list(records_of(frame))
