"""Rows of delta frames as columns, gathered over frames so that numpy is called seldom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, compress
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.core.delta import (
    EVENT_TYPE,
    KEY_INDEX,
    PANE,
    SUM,
    VALUE,
    DistinctRows,
    FamilyRows,
)
from pipeline.core.errors import InvariantError
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import KEY_SEPARATOR

_T = TypeVar("_T", bound=np.generic)
_NONE: Final = DistinctRows(b"", b"", b"")


def longer(columns: NDArray[_T], length: int, fill: int = 0) -> NDArray[_T]:
    """Return a copy that is *length* long in its last dimension, filled up with *fill*."""
    grown = np.full((*columns.shape[:-1], length), fill, columns.dtype)
    grown[..., : columns.shape[-1]] = columns
    return grown


class Values(NamedTuple):
    """Rows of one distinct count; all columns are of equal length."""

    key_index: NDArray[np.intp]
    pane: NDArray[np.int64]
    """Base pane in units of 10 s."""
    value: NDArray[np.uint64]


class Rows(NamedTuple):
    """Rows of one family; all columns are of equal length, those of the distinct counts apart."""

    keys: Sequence[str]
    key_index: NDArray[np.intp]
    event_type: NDArray[np.uint8]
    pane: NDArray[np.int64]
    """Base pane in units of 10 s."""
    sums: NDArray[np.int64]
    """One line per sum of the family, one column per row."""
    last: NDArray[np.int64] | None
    """Newest event time in ms."""
    distincts: Sequence[Values] = ()
    """By distinct count of the family."""

    def only(self, wanted: NDArray[np.bool_]) -> Rows:
        """Return the wanted rows; their keys may then be more than they use."""
        return Rows(
            self.keys,
            self.key_index[wanted],
            self.event_type[wanted],
            self.pane[wanted],
            self.sums[:, wanted],
            None if self.last is None else self.last[wanted],
            self.distincts,
        )

    def with_used_keys(self) -> Rows:
        """Return the same rows, with no key that none of them uses; its distinct values go too."""
        used = np.zeros(len(self.keys), np.bool_)
        used[self.key_index] = True
        if used.all():
            return self
        place = np.cumsum(used) - 1
        return self._replace(
            keys=list(compress(self.keys, used.tolist())),
            key_index=place[self.key_index],
            distincts=[_of_used(one, used, place) for one in self.distincts],
        )


class Pending:
    """Rows of one family that were read and not yet folded.

    Once :meth:`check` has passed, :meth:`take` cannot fail: it may be called for a reader.
    """

    def __init__(
        self, fields: int, sums: Sequence[str], distincts: Sequence[str], *, with_last: bool
    ) -> None:
        """Keep the sums and distinct counts named so, by keys of *fields*; event times if wanted."""
        self._separators = fields - 1
        self._sums = tuple(sums)
        self._distincts = tuple(distincts)
        self._with_last = with_last
        self._frames: list[FamilyRows] = []
        self._rows = 0
        self._checked = 0

    def __len__(self) -> int:
        """Return the number of rows waiting, those of distinct counts too."""
        return self._rows

    def add(self, rows: FamilyRows) -> None:
        """Take the rows of one frame.

        Raises:
            InvariantError: The columns are not of one length.
        """
        length = len(rows)
        lengths = {len(column) for column in rows.sums.values()}
        lengths.add(len(rows.last) or length * SUM.itemsize)
        if (
            len(rows.key_index) != length * KEY_INDEX.itemsize
            or len(rows.pane) != length * PANE.itemsize
            or lengths != {length * SUM.itemsize}
            or not all(one.is_regular() for one in rows.distincts.values())
        ):
            raise InvariantError(f"columns of unequal length in family {rows.family}")
        self._frames.append(rows)
        self._rows += length + sum(len(one) for one in rows.distincts.values())

    def check(self) -> None:
        """Look at what was added since the last check; of many frames at once, it costs little.

        Raises:
            InvariantError: A row names a key or an event type that does not exist, or a key has
                not the family's number of fields.
        """
        frames, self._checked = self._frames[self._checked :], len(self._frames)
        if not frames:
            return
        keys = np.repeat([len(rows.keys) for rows in frames], [len(rows) for rows in frames])
        if np.any(_joined([rows.key_index for rows in frames], KEY_INDEX) >= keys):
            raise InvariantError("a delta row names a key that its frame does not have")
        for name in self._distincts:
            found = [rows.distincts.get(name, _NONE) for rows in frames]
            keys = np.repeat([len(rows.keys) for rows in frames], [len(one) for one in found])
            if np.any(_joined([one.key_index for one in found], KEY_INDEX) >= keys):
                raise InvariantError("a distinct value is of a key that its frame does not have")
        if np.any(_joined([rows.event_type for rows in frames], EVENT_TYPE) >= len(EVENT_TYPES)):
            raise InvariantError("a delta row has an event type that does not exist")
        if {key.count(KEY_SEPARATOR) for rows in frames for key in rows.keys} - {self._separators}:
            raise InvariantError(f"a key of other than {self._separators + 1} fields")

    def take(self) -> Rows:
        """Return all rows that are waiting; afterwards none are.

        Raises:
            InvariantError: As :meth:`check`.
        """
        self.check()
        frames, self._frames, self._rows, self._checked = self._frames, [], 0, 0
        lengths = np.fromiter(map(len, frames), np.intp, len(frames))
        keys = np.fromiter((len(rows.keys) for rows in frames), np.intp, len(frames))
        key_index = _joined([rows.key_index for rows in frames], KEY_INDEX).astype(np.intp)
        event_type: NDArray[np.uint8] = _joined([rows.event_type for rows in frames], EVENT_TYPE)
        first = np.cumsum(keys) - keys
        return Rows(
            list(chain.from_iterable(rows.keys for rows in frames)),
            key_index + np.repeat(first, lengths),
            event_type,
            _joined([rows.pane for rows in frames], PANE).astype(np.int64),
            np.array([_column(frames, name) for name in self._sums]),
            self._last(frames) if self._with_last else None,
            [_values(frames, name, first) for name in self._distincts],
        )

    @staticmethod
    def _last(frames: Sequence[FamilyRows]) -> NDArray[np.int64]:
        return _joined([rows.last or bytes(len(rows) * SUM.itemsize) for rows in frames], SUM)


def _column(frames: Sequence[FamilyRows], name: str) -> NDArray[np.int64]:
    """Return the sum called *name*; zeros where a frame's writer did not know it."""
    return _joined([rows.sums.get(name) or bytes(len(rows) * SUM.itemsize) for rows in frames], SUM)


def _values(frames: Sequence[FamilyRows], name: str, first: NDArray[np.intp]) -> Values:
    """Return the distinct values called *name*; *first* is where each frame's keys begin."""
    found = [rows.distincts.get(name, _NONE) for rows in frames]
    lengths = [len(one) for one in found]
    key_index = _joined([one.key_index for one in found], KEY_INDEX).astype(np.intp)
    return Values(
        key_index + np.repeat(first, lengths),
        _joined([one.pane for one in found], PANE).astype(np.int64),
        _joined([one.value for one in found], VALUE).astype(np.uint64),
    )


def _of_used(values: Values, used: NDArray[np.bool_], place: NDArray[np.intp]) -> Values:
    kept = used[values.key_index]
    return Values(place[values.key_index[kept]], values.pane[kept], values.value[kept])


def _joined(columns: Sequence[bytes], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(b"".join(columns), dtype)
