"""Seen runs: the ids of one batch, as written to ``mail.seen`` for the next owner of a partition.

Each committed batch writes exactly one run, even when it held nothing new, so a warm-up knows that
it has read everything once it meets the run whose *end* is the committed source offset.

Layout, version 1, MessagePack array ``[version, topic, partition, start, end, received_ms,
segments]``; a segment is ``[bucket, hashes]``: *bucket* the start in ms of the horizon bucket,
*hashes* sorted little-endian u8 (xxh3-64 of ``source|event_id``).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import FrameVersionError, InvariantError

VERSION: Final = 1
HASH: Final = np.dtype("<u8")


class Segment(msgspec.Struct, array_like=True, gc=False):
    """The new ids of one horizon bucket."""

    bucket: int
    hashes: bytes

    def column(self) -> NDArray[np.uint64]:
        """Return the sorted hashes."""
        return np.frombuffer(self.hashes, HASH)


class SeenRun(msgspec.Struct, array_like=True, gc=False):
    """One record of ``mail.seen``: what the batch ``[start, end)`` of a raw partition added."""

    version: int
    topic: str
    partition: int
    start: int
    end: int
    received_ms: int
    """Highest ``received`` of the partition up to *end*: the clock of the horizon."""
    segments: list[Segment]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SeenRun).decode


def encode_run(run: SeenRun) -> bytes:
    """Return the record value of *run*."""
    return _encode(run)


def decode_run(value: bytes) -> SeenRun:
    """Return the run of a record value.

    Raises:
        FrameVersionError: The run was written by a newer program.
        InvariantError: The bytes are no run.
    """
    try:
        run = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvariantError(f"not a seen run: {exc}") from exc
    if run.version != VERSION:
        raise FrameVersionError(f"seen run of version {run.version}")
    return run
