"""Publication: what becomes closed 5 min panes for consumers, from deltas over frames to records.

Phase 1 adds *pane rows* to its deltas, phase 2 gathers those of a pane until it is closed and writes
them as a *frame* on ``mail.rollups``, and a publisher turns frames into records of ``mail.panes``.
Frames are an exactly-once, additive stream by themselves: no window is made of them.

A pane row is (key, kind, pane) with its sums.  Its kind is an event type number; of delivered events
that tell how long it took it is :data:`FIRST_BUCKET` plus the number of their bucket.  Columns are
little-endian: ``key_index`` u4, ``kind`` u1, ``pane`` u4 in units of 5 minutes, and one i8 column for
each of :data:`SUMS`, empty where it is all zero.

Frame, version 1, MessagePack of an array: ``[version, start_ms, partial, families]`` with *families* a
list of ``[name, keys, rows]``; all rows of a frame are of one pane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InvariantError
from pipeline.core.event import EVENT_TYPE_NUMBER, EVENT_TYPES
from pipeline.core.pane import MINUTE_MS
from pipeline.core.tally import BOUNDS_SECONDS
from pipeline.core.versioned import decoder_of

PUBLISHED: Final = ("user", "ip", "ip_provider")
"""Families whose closed panes consumers get, if nothing else is configured."""
PUBLISHED_MS: Final = 5 * MINUTE_MS
"""Length of the panes that consumers get."""
SUMS: Final = ("count", "recipients", "bytes", "delivery_ms_sum")
"""What is added up."""
BUCKETS: Final = len(BOUNDS_SECONDS) + 1
"""The last one is for what took longer than the last bound."""
FIRST_BUCKET: Final = 128
"""Far above the event types, which may become more."""
DELIVERED: Final = EVENT_TYPE_NUMBER["delivered"]
KINDS: Final = len(EVENT_TYPES) + BUCKETS

_VERSION: Final = 1
_INDEX: Final = np.dtype("<u4")
_KIND: Final = np.dtype("u1")
_SUM: Final = np.dtype("<i8")


class PaneColumns(NamedTuple):
    """Rows as columns."""

    key_index: NDArray[np.intp]
    kind: NDArray[np.uint8]
    """Below :data:`KINDS`: buckets follow the event types."""
    pane: NDArray[np.int64]
    sums: NDArray[np.int64]
    """A line for each of :data:`SUMS`."""


class PaneRows(msgspec.Struct, array_like=True, gc=False):
    """Rows of one family, all columns of equal length."""

    key_index: bytes
    kind: bytes
    pane: bytes
    sums: list[bytes]

    @classmethod
    def of(
        cls,
        key_index: NDArray[Any],
        kind: NDArray[Any],
        pane: NDArray[Any],
        sums: Sequence[NDArray[np.int64]],
    ) -> PaneRows:
        """Build from columns; *pane* is in units of 5 minutes, *sums* as in :data:`SUMS`."""
        return cls(
            key_index.astype(_INDEX, copy=False).tobytes(),
            kind.astype(_KIND, copy=False).tobytes(),
            pane.astype(_INDEX, copy=False).tobytes(),
            [one.astype(_SUM, copy=False).tobytes() if one.any() else b"" for one in sums],
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.kind)

    def check(self) -> None:
        """Make sure that the columns are of one length.

        Raises:
            InvariantError: They are not.
        """
        length = len(self.kind)
        if (
            len(self.key_index) != length * _INDEX.itemsize
            or len(self.pane) != length * _INDEX.itemsize
            or len(self.sums) != len(SUMS)
            or {len(one) for one in self.sums} - {0, length * _SUM.itemsize}
        ):
            raise InvariantError("pane rows with columns of unequal length")

    def columns(self, keys: int) -> PaneColumns:
        """Return the rows as columns; their family has so many *keys*.

        Raises:
            InvariantError: As :func:`joined`.
        """
        return joined([self], [keys])


def joined(rows: Sequence[PaneRows], keys: Sequence[int]) -> PaneColumns:
    """Return the columns of several frames; their *keys* are numbered one after the other.

    Raises:
        InvariantError: A row names a key that its frame does not have, or a kind that does not exist.
    """
    lengths = [len(one) for one in rows]
    key_index = np.frombuffer(b"".join([one.key_index for one in rows]), _INDEX)
    if np.any(key_index >= np.repeat(keys, lengths)):
        raise InvariantError("a pane row names a key that its frame does not have")
    kind = np.frombuffer(b"".join([one.kind for one in rows]), _KIND)
    if np.any((kind >= len(EVENT_TYPES)) & (kind < FIRST_BUCKET)) or np.any(
        kind >= FIRST_BUCKET + BUCKETS
    ):
        raise InvariantError("a pane row of a kind that does not exist")
    zeros = [bytes(length * _SUM.itemsize) for length in lengths]
    sums = [
        np.frombuffer(
            b"".join([one.sums[place] or zero for one, zero in zip(rows, zeros, strict=True)]), _SUM
        )
        for place in range(len(SUMS))
    ]
    return PaneColumns(
        key_index.astype(np.intp) + np.repeat(np.cumsum(keys) - keys, lengths),
        _number(kind),
        np.frombuffer(b"".join([one.pane for one in rows]), _INDEX).astype(np.int64),
        np.array(sums),
    )


def _number(kind: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(kind < FIRST_BUCKET, kind, kind - (FIRST_BUCKET - len(EVENT_TYPES)))


def kind_code(number: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the kinds as rows spell them, of numbers below :data:`KINDS`."""
    types = len(EVENT_TYPES)
    return np.where(number < types, number, number + (FIRST_BUCKET - types)).astype(np.uint8)


class FamilyPanes(msgspec.Struct, array_like=True, gc=False):
    """The rows of one family in a frame."""

    family: str
    keys: list[str]
    rows: PaneRows


class PaneFrame(msgspec.Struct, array_like=True, gc=False):
    """What a closed pane, or something that came late to it, adds to ``mail.panes``."""

    version: int
    start_ms: int
    partial: bool
    """Whether the pane is known to be more than this roll-up tells of it, or may be."""
    families: list[FamilyPanes]


_encode = msgspec.msgpack.Encoder().encode
_decode = decoder_of(PaneFrame, "pane frame", {_VERSION})


def encode_panes(start_ms: int, families: list[FamilyPanes], *, partial: bool) -> bytes:
    """Return the record value of one frame."""
    return _encode(PaneFrame(_VERSION, start_ms, partial, families))


def decode_panes(value: bytes) -> PaneFrame:
    """Return the frame of a record value; its rows are sound.

    Raises:
        FrameVersionError: The frame was written by a newer program.
        InvariantError: The bytes are no such frame.
    """
    frame = _decode(value)
    for one in frame.families:
        one.rows.check()
    return frame
