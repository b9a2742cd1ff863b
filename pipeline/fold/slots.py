"""Slots: the places of (key, event type) pairs in a family's columns, reused when a pair dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import KEY_SEPARATOR, Family
from pipeline.fold.columns import longer

TYPES: Final = len(EVENT_TYPES)
NOBODY: Final = 0
"""The key number that free slots point at; it never has a name."""

_FIRST_CAPACITY: Final = 64


class Groups:
    """The combinations of a family's bounded fields, numbered in order of appearance.

    Keys that are folded into ``_other`` keep these fields, so each key knows its group from
    the moment it is interned.  Shared by all partitions of the family.
    """

    def __init__(self, family: Family) -> None:
        """Take the places of ``family.bounded`` in its keys."""
        self._places = tuple(family.fields.index(field) for field in family.bounded)
        self._numbers: dict[tuple[str, ...], int] = {}
        self.values: list[tuple[str, ...]] = []
        """The bounded fields of each group, in the order of ``family.bounded``."""

    def of(self, key: str) -> int:
        """Return the group of a joined key, which has the family's number of fields."""
        fields = key.split(KEY_SEPARATOR) if self._places else ()
        values = tuple(fields[place] for place in self._places)
        number = self._numbers.get(values)
        if number is None:
            number = self._numbers[values] = len(self.values)
            self.values.append(values)
        return number


class _Numbers(dict[str, int]):
    """Key to number; an unknown key is given one by its first look-up."""

    def __init__(self, take: Callable[[str], int]) -> None:
        super().__init__()
        self._take = take

    def __missing__(self, key: str) -> int:
        number = self[key] = self._take(key)
        return number


class Slots:
    """Keys and slots of one family in one partition.

    Keys are interned to numbers, (key number, event type) pairs to slots.  The columns below
    may be longer than what is in use: read them up to :attr:`size` (slots) or ``len(names)``
    (key numbers).
    """

    def __init__(self, groups: Groups | None = None, kinds: int = TYPES) -> None:
        """Tell keys apart by *groups*, if given; pair them with numbers below *kinds*."""
        self._groups = groups
        self._kinds = kinds
        self._numbers = _Numbers(self._name)
        self._free_keys: list[int] = []
        self._free_slots: list[int] = []
        self._slot_of = np.full(_FIRST_CAPACITY * kinds, -1, np.int32)
        self.size = 0
        """Slots ever given out: those in use, and free ones between them."""
        self.names: list[str] = [""]
        """Joined key by key number; empty where the number is free."""
        self.group: NDArray[np.int32] = np.zeros(_FIRST_CAPACITY, np.int32)
        """Group by key number."""
        self.uses: NDArray[np.int32] = np.zeros(_FIRST_CAPACITY, np.int32)
        """Slots in use by key number."""
        self.key: NDArray[np.int32] = np.zeros(_FIRST_CAPACITY, np.int32)
        """Key number by slot; :data:`NOBODY` where the slot is free."""
        self.event_type: NDArray[np.uint8] = np.zeros(_FIRST_CAPACITY, np.uint8)
        """Event type number by slot."""

    @property
    def capacity(self) -> int:
        """Return how long columns by slot must be."""
        return len(self.key)

    def number(self, key: str) -> int | None:
        """Return the number of a key, or None if it is not in use."""
        return self._numbers.get(key)

    def place(
        self, keys: Sequence[str], key_index: NDArray[np.intp], event_type: NDArray[np.uint8]
    ) -> NDArray[np.int32]:
        """Return the slot of each row, giving out new ones where needed.

        Every key must be used by at least one row, or its number would never be freed.
        """
        numbers = np.fromiter(map(self._numbers.__getitem__, keys), np.intp, len(keys))
        code = numbers[key_index] * self._kinds + event_type
        slot: NDArray[np.int32] = self._slot_of[code]
        missing = slot < 0
        if missing.any():
            self._give(np.unique(code[missing]))
            slot = self._slot_of[code]
        return slot

    def release(self, slots: NDArray[np.int32]) -> None:
        """Free distinct slots, and the keys that have no other slot."""
        keys = self.key[slots]
        self._slot_of[keys.astype(np.intp) * self._kinds + self.event_type[slots]] = -1
        self.key[slots] = NOBODY
        self._free_slots.extend(slots.tolist())
        np.subtract.at(self.uses, keys, 1)
        for number in np.unique(keys[self.uses[keys] == 0]).tolist():
            del self._numbers[self.names[number]]
            self.names[number] = ""
            self._free_keys.append(number)

    def _name(self, key: str) -> int:
        group = 0 if self._groups is None else self._groups.of(key)
        if self._free_keys:
            number = self._free_keys.pop()
            self.names[number] = key
        else:
            number = len(self.names)
            self.names.append(key)
            if number >= len(self.uses):
                self.uses = longer(self.uses, 2 * number)
                self.group = longer(self.group, 2 * number)
                self._slot_of = longer(self._slot_of, 2 * number * self._kinds, -1)
        self.group[number] = group
        return number

    def _give(self, codes: NDArray[np.intp]) -> None:
        reused = min(len(codes), len(self._free_slots))
        new = len(codes) - reused
        slots = np.empty(len(codes), np.int32)
        slots[:reused] = self._free_slots[len(self._free_slots) - reused :]
        slots[reused:] = np.arange(self.size, self.size + new)
        del self._free_slots[len(self._free_slots) - reused :]
        self.size += new
        if self.size > self.capacity:
            self.key = longer(self.key, 2 * self.size)
            self.event_type = longer(self.event_type, 2 * self.size)
        keys = codes // self._kinds
        self._slot_of[codes] = slots
        self.key[slots] = keys
        self.event_type[slots] = codes % self._kinds
        np.add.at(self.uses, keys, 1)
