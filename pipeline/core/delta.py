"""Delta frames: what one batch adds to the panes, as columns.

All rows that one batch has for one partition of ``mail.deltas`` are one record.  A row is
(family, key, event type, base pane) with its sums; rows of equal identity add up in any order,
so the log of frames *is* the state.

Layout, version 1, MessagePack of an array: ``[version, topic, partition, watermark_ms, families]``
with ``families`` a list of ``[name, keys, key_index, event_type, pane, sums, last, distincts]``: *keys* the
distinct joined keys (see ``families.KEY_SEPARATOR``); the others one little-endian column per row
(``key_index`` u4, ``event_type`` u1 as in ``event.EVENT_TYPES``, ``pane`` u4 in units of 10 s,
*sums* name to i8 column, *last* i8 column of the newest event time in ms, or empty).

*distincts* is name to ``[key_index, pane, value]``, the different values that a field of the events had:
columns of their own length, ``value`` u8 the :func:`value_hash` of the text.  Rows of equal identity count
once, so repeating one changes nothing.  The field is optional: frames without it have none, and programs
that do not know it pass over it, so that it needed no new version.  So is the field after it, *panes*: the
same events as rows of :mod:`pipeline.core.publication`, of families whose panes are published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.core.publication import PaneRows
from pipeline.core.versioned import decoder_of

VERSION: Final = 1
_READABLE: Final = frozenset({VERSION})

KEY_INDEX: Final = np.dtype("<u4")
EVENT_TYPE: Final = np.dtype("u1")
PANE: Final = np.dtype("<u4")
SUM: Final = np.dtype("<i8")
VALUE: Final = np.dtype("<u8")


def value_hash(value: str) -> int:
    """Return what stands for a value of a distinct count: xxh3-64, seed 0, of its UTF-8."""
    return xxhash.xxh3_64_intdigest(value.encode())


class DistinctRows(msgspec.Struct, array_like=True, gc=False):
    """The different values of one field in one family of one frame, all columns of equal length."""

    key_index: bytes
    pane: bytes
    value: bytes

    @classmethod
    def of(
        cls, key_index: NDArray[Any], pane: NDArray[Any], value: NDArray[np.uint64]
    ) -> DistinctRows:
        """Build from columns; *pane* is in units of 10 s."""
        return cls(
            key_index.astype(KEY_INDEX, copy=False).tobytes(),
            pane.astype(PANE, copy=False).tobytes(),
            value.astype(VALUE, copy=False).tobytes(),
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.value) // VALUE.itemsize

    def is_regular(self) -> bool:
        """Tell whether the columns are whole and of one length."""
        length = len(self)
        return (
            len(self.value) == length * VALUE.itemsize
            and len(self.key_index) == length * KEY_INDEX.itemsize
            and len(self.pane) == length * PANE.itemsize
        )


class FamilyRows(msgspec.Struct, array_like=True, gc=False):
    """The rows of one family in one frame, all columns of equal length."""

    family: str
    keys: list[str]
    key_index: bytes
    event_type: bytes
    pane: bytes
    sums: dict[str, bytes]
    last: bytes = b""
    distincts: dict[str, DistinctRows] = msgspec.field(default_factory=dict)
    panes: PaneRows | None = None

    @classmethod
    def of(
        cls,
        family: str,
        keys: Sequence[str],
        key_index: NDArray[Any],
        event_type: NDArray[Any],
        pane: NDArray[Any],
        sums: dict[str, NDArray[Any]],
        last: NDArray[Any] | None = None,
    ) -> FamilyRows:
        """Build from columns; *pane* is in units of 10 s."""
        return cls(
            family,
            list(keys),
            key_index.astype(KEY_INDEX, copy=False).tobytes(),
            event_type.astype(EVENT_TYPE, copy=False).tobytes(),
            pane.astype(PANE, copy=False).tobytes(),
            {name: column.astype(SUM, copy=False).tobytes() for name, column in sums.items()},
            b"" if last is None else last.astype(SUM, copy=False).tobytes(),
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.event_type)

    def column_key_index(self) -> NDArray[np.uint32]:
        """Return the place of each row's key in *keys*."""
        return np.frombuffer(self.key_index, KEY_INDEX)

    def column_event_type(self) -> NDArray[np.uint8]:
        """Return each row's event type number."""
        return np.frombuffer(self.event_type, EVENT_TYPE)

    def column_pane(self) -> NDArray[np.uint32]:
        """Return each row's base pane, in units of 10 s since the epoch."""
        return np.frombuffer(self.pane, PANE)

    def column_sum(self, name: str) -> NDArray[np.int64]:
        """Return each row's sum called *name*; zeros if the writer did not know it."""
        column = self.sums.get(name)
        return np.zeros(len(self), SUM) if column is None else np.frombuffer(column, SUM)

    def column_last(self) -> NDArray[np.int64] | None:
        """Return each row's newest event time in ms, or None."""
        return np.frombuffer(self.last, SUM) if self.last else None


class DeltaFrame(msgspec.Struct, array_like=True, gc=False):
    """One record of ``mail.deltas``."""

    version: int
    topic: str
    partition: int
    watermark_ms: int
    """Highest ``received`` that the source partition had committed with this batch."""
    families: list[FamilyRows]


_encode = msgspec.msgpack.Encoder().encode
_decode = decoder_of(DeltaFrame, "delta frame", _READABLE)


def encode_frame(frame: DeltaFrame) -> bytes:
    """Return the record value of *frame*."""
    return _encode(frame)


def decode_frame(value: bytes) -> DeltaFrame:
    """Return the frame of a record value.

    Raises:
        FrameVersionError: The frame was written by a newer (or long gone) program.
        InvariantError: The bytes are no frame: ``mail.deltas`` was written by someone else.
    """
    return _decode(value)
