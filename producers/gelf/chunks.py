"""Chunked GELF messages put together again, within bounds.

A chunk of the standard has a header of 12 bytes: ``1e 0f``, a message id of 8, its number, and how
many there are.  The npm client writes the id as one byte, so that its header has 5 bytes.  Which of
the two a chunk has can not always be told from it alone: each is read in every way that is
possible, and the way that completes a message takes the chunk away from the other.

Pure: the time is a parameter, in seconds on a clock that never goes back.
"""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from producers.gelf.messages import begins_message, is_whole

MAGIC: Final = b"\x1e\x0f"
MOST_CHUNKS: Final = 128
KEPT_S: Final = 5.0
"""All chunks of a message come within this time."""
SHARE: Final = 4
"""One sender may use the fourth part of what all may."""
COST: Final = 200
"""Bytes that a pending chunk is counted for beside its own: an empty one takes memory too."""

_STANDARD: Final = 12
_SHORT: Final = 5
_ZLIB_OF_NPM: Final = b"\x78\x9c"

Sender: TypeAlias = tuple[str, int]
"""Address and port."""
_Key: TypeAlias = tuple[Sender, int, bytes, int]
"""Sender, length of the header, message id, number of chunks."""


class ChunkLoss(StrEnum):
    """Why chunks were dropped; becomes the metric label ``reason``."""

    INVALID = "invalid"
    """The header makes no sense: too short, no chunks or too many, a number beyond them."""
    EXPIRED = "expired"
    """The rest of the message did not come in time."""
    REPLACED = "replaced"
    """The sender used the message's id again for another one."""
    OVERFLOW = "overflow"
    """Too many messages, or too many bytes, wait for their rest."""


@dataclass(slots=True, eq=False)
class _Chunk:
    data: bytes
    sender: Sender
    readings: int = 0
    """In how many pending messages it stands."""


@dataclass(slots=True, eq=False)
class _Pending:
    """One message as one of the layouts reads it."""

    began: float
    chunks: dict[int, _Chunk] = field(default_factory=dict)


class Assembler:
    """Chunks that wait for the rest of their message."""

    def __init__(self, *, max_bytes: int, max_messages: int = 1000) -> None:
        """Hold at most *max_bytes* of chunks of *max_messages* messages, a quarter per address."""
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._pending: dict[_Key, _Pending] = {}
        self._by_address: dict[str, _Held] = {}
        self._all = _Held()
        self.lost: Multiset[ChunkLoss] = Multiset()
        """Chunks that will be in no message, by reason."""

    @property
    def held_bytes(self) -> int:
        """Return the bytes that are held."""
        return self._all.bytes

    @property
    def messages(self) -> int:
        """Return how many messages wait; a chunk that can be read in two ways counts twice."""
        return len(self._pending)

    def take(self, sender: Sender, chunk: bytes, now: float) -> bytes | None:
        """Return the message that *chunk* completes, or None.

        Args:
            sender: Address and port.
            chunk: A datagram that begins with :data:`MAGIC`.
            now: Never less than in the call before.
        """
        self.expire(now)
        one = _Chunk(chunk, sender)
        readings = list(_readings(sender, chunk))
        if not readings:
            self.lost[ChunkLoss.INVALID] += 1
            return None
        known = False
        for key, number in readings:
            pending = self._pending.get(key)
            if pending is not None and number in pending.chunks:
                if pending.chunks[number].data == chunk:
                    known = True  # the network delivers some datagrams twice
                else:
                    self._forget(key, ChunkLoss.REPLACED)
        if known:
            return None
        if self._is_full(sender[0], len(chunk) + COST, len(readings)):
            self.lost[ChunkLoss.OVERFLOW] += 1
            return None
        for key, number in readings:
            self._add(key, number, one, now)
        return next(filter(None, (self._completed(key) for key, _number in readings)), None)

    def expire(self, now: float) -> None:
        """Drop what did not become whole in time."""
        while self._pending:
            key, oldest = next(iter(self._pending.items()))
            if now - oldest.began <= KEPT_S:
                return
            self._forget(key, ChunkLoss.EXPIRED)

    def _is_full(self, address: str, size: int, messages: int) -> bool:
        own = self._by_address.get(address, _Held())
        return (
            self._all.bytes + size > self._max_bytes
            or self._all.messages + messages > self._max_messages
            or own.bytes + size > self._max_bytes // SHARE
            or own.messages + messages > self._max_messages // SHARE
        )

    def _add(self, key: _Key, number: int, chunk: _Chunk, now: float) -> None:
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = _Pending(now)
            self._count(key[0][0], 0, 1)
        pending.chunks[number] = chunk
        chunk.readings += 1
        if chunk.readings == 1:
            self._count(key[0][0], len(chunk.data) + COST, 0)

    def _completed(self, key: _Key) -> bytes | None:
        sender, header, _id, count = key
        pending = self._pending.get(key)
        if pending is None or len(pending.chunks) < count:
            return None
        chunks = [pending.chunks[number] for number in range(count)]
        self._forget(key, None)
        for chunk in chunks:
            for other, number in _readings(sender, chunk.data):
                self._take_away(other, number, chunk)
        return b"".join(chunk.data[header:] for chunk in chunks)

    def _take_away(self, key: _Key, number: int, chunk: _Chunk) -> None:
        """Take *chunk*, which is in a message, out of the one that it only seemed to belong to."""
        pending = self._pending.get(key)
        if pending is not None and pending.chunks.get(number) is chunk:
            del pending.chunks[number]
            self._let_go(chunk, None)
            if not pending.chunks:
                self._forget(key, None)

    def _forget(self, key: _Key, reason: ChunkLoss | None) -> None:
        pending = self._pending.pop(key)
        self._count(key[0][0], 0, -1)
        for chunk in pending.chunks.values():
            self._let_go(chunk, reason)

    def _let_go(self, chunk: _Chunk, reason: ChunkLoss | None) -> None:
        chunk.readings -= 1
        if not chunk.readings:
            self._count(chunk.sender[0], -len(chunk.data) - COST, 0)
            if reason is not None:
                self.lost[reason] += 1

    def _count(self, address: str, size: int, messages: int) -> None:
        own = self._by_address.setdefault(address, _Held())
        for held in (own, self._all):
            held.bytes += size
            held.messages += messages
        if not (own.bytes or own.messages):
            del self._by_address[address]


@dataclass(slots=True)
class _Held:
    """How much waits, of one address or of all."""

    bytes: int = 0
    messages: int = 0


def _readings(sender: Sender, chunk: bytes) -> Iterator[tuple[_Key, int]]:
    """Yield every message, and the place in it, that *chunk* may belong to."""
    short = _short_reading(sender, chunk)
    if len(chunk) >= _STANDARD:
        number, count = chunk[10], chunk[11]
        possible = number < count <= MOST_CHUNKS and (number or begins_message(chunk[_STANDARD:]))
        # An only chunk is a message at once: where it may be a part of one it must be a whole one.
        if possible and (count > 1 or short is None or is_whole(chunk[_STANDARD:])):
            yield (sender, _STANDARD, chunk[2:10], count), number
    if short is not None:
        yield short


def _short_reading(sender: Sender, chunk: bytes) -> tuple[_Key, int] | None:
    """Return what a chunk of the npm client belongs to; None: it is none."""
    if len(chunk) < _SHORT:
        return None
    number, count = chunk[3], chunk[4]
    if number < count <= MOST_CHUNKS and (number or chunk.startswith(_ZLIB_OF_NPM, _SHORT)):
        return (sender, _SHORT, chunk[2:3], count), number
    return None
