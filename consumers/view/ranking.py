"""The highest of a family's keys, out of columns: a million keys take milliseconds.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.event import EVENT_TYPE_NUMBER, EVENT_TYPES
from pipeline.core.families import KEY_SEPARATOR, Family, Sum
from pipeline.fold.board import Board
from pipeline.fold.share import Share

_TYPES: Final = len(EVENT_TYPES)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One key and what its window holds."""

    key: tuple[str, ...]
    """Values of the fields that were asked for, in the family's order."""
    count: int
    """What it was ranked by."""
    events: dict[str, int]
    """Events by type."""
    sums: dict[str, int]
    """The family's other sums."""


class Ranking(NamedTuple):
    """The highest keys, and the whole that they are a part of."""

    rows: list[Ranked]
    keys: int
    """How many keys have anything that was counted."""
    total: int
    """What all of them have."""


def highest(
    board: Board, family: Family, window_ms: int, event_type: str | None, most: int
) -> Ranking:
    """Return the *most* keys with the most events of a type, or of all types, ties by key."""
    count = family.sums.index(Sum.COUNT)
    total = keys = 0
    found: list[tuple[int, str, Share, int]] = []
    for share in board.shares(family.name):
        counts = _counts(share, share.running[window_ms][count], event_type)
        total += int(counts.sum())
        keys += int(np.count_nonzero(counts))
        found += _first(share, counts, most)
    found.sort(key=lambda one: (-one[0], one[1]))
    found = found[:most]
    return Ranking(list(_described(family, window_ms, found)), keys, total)


def grouped(
    board: Board, family: Family, window_ms: int, event_type: str | None, place: int
) -> Ranking:
    """Return the sums over all keys by the value of one bounded field, the highest first.

    Args:
        board: What is folded.
        family: Has bounded fields.
        window_ms: One of the board's windows.
        event_type: Ranked by; None: by all.
        place: Of the field in ``family.bounded``.
    """
    shares = board.shares(family.name)  # which folds what waits, and names its groups
    groups = board.groups(family.name)
    by_group = np.zeros((len(family.sums), len(groups), _TYPES), np.int64)
    for share in shares:
        place_of = share.group[share.key].astype(np.intp), share.event_type
        for total, column in zip(by_group, share.running[window_ms], strict=True):
            np.add.at(total, place_of, column)
    sums: dict[str, NDArray[np.int64]] = {}
    for number, values in enumerate(groups):
        sums[values[place]] = sums.get(values[place], 0) + by_group[:, number]
    ranked = [_summed(family, (name,), one, event_type) for name, one in sums.items()]
    rows = sorted((one for one in ranked if one.count), key=lambda one: (-one.count, one.key))
    return Ranking(rows, len(rows), sum(one.count for one in rows))


def one_key(board: Board, family: Family, window_ms: int, key: str) -> Ranked | None:
    """Return what the window holds of a joined key, or None if it holds nothing."""
    for share in board.shares(family.name):
        number = share.number(key)
        if number is not None:
            found = [(0, key, share, number)]
            (ranked,) = _described(family, window_ms, found)
            return ranked if ranked.events else None
    return None


def _counts(share: Share, running: NDArray[np.int64], event_type: str | None) -> NDArray[np.int64]:
    """Return the events by key number."""
    keys, values = share.key, running
    if event_type is not None:
        chosen = share.event_type == EVENT_TYPE_NUMBER[event_type]
        keys, values = keys[chosen], values[chosen]
    # Sums as floats are exact below 2**53.
    return np.bincount(keys, values, len(share.names)).astype(np.int64)


def _first(
    share: Share, counts: NDArray[np.int64], most: int
) -> Iterator[tuple[int, str, Share, int]]:
    """Yield this share's candidates; of ties for the last place, all."""
    if len(counts) > most:
        lowest = max(1, int(np.partition(counts, len(counts) - most)[len(counts) - most]))
    else:
        lowest = 1
    above = np.flatnonzero(counts > lowest)
    tied = np.flatnonzero(counts == lowest)
    left = most - len(above)
    if len(tied) > left:
        tied = np.array(sorted(tied.tolist(), key=share.names.__getitem__)[:left], np.intp)
    for number in [*above.tolist(), *tied.tolist()]:
        yield int(counts[number]), share.names[number], share, number


def _described(
    family: Family, window_ms: int, found: Sequence[tuple[int, str, Share, int]]
) -> Iterator[Ranked]:
    """Yield what the window holds of each key, in the same order."""
    slots: dict[tuple[int, int], list[int]] = {}
    for share in {id(one[2]): one[2] for one in found}.values():
        wanted = np.zeros(len(share.names), np.bool_)
        wanted[[number for _, _, of, number in found if of is share]] = True
        for slot in np.flatnonzero(wanted[share.key]).tolist():
            slots.setdefault((id(share), int(share.key[slot])), []).append(slot)
    for count, key, share, number in found:
        sums = np.zeros((len(family.sums), _TYPES), np.int64)
        for slot in slots.get((id(share), number), ()):
            sums[:, share.event_type[slot]] += share.running[window_ms][:, slot]
        ranked = _summed(family, tuple(key.split(KEY_SEPARATOR)), sums, None)
        yield replace(ranked, count=count or ranked.count)


def _summed(
    family: Family, key: tuple[str, ...], sums: NDArray[np.int64], event_type: str | None
) -> Ranked:
    counts = sums[family.sums.index(Sum.COUNT)]
    events = {EVENT_TYPES[number]: int(counts[number]) for number in np.flatnonzero(counts)}
    others = {
        name.value: int(line.sum())
        for name, line in zip(family.sums, sums, strict=True)
        if name is not Sum.COUNT
    }
    count = sum(events.values()) if event_type is None else events.get(event_type, 0)
    return Ranked(key, count, events, others)
