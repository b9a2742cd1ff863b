"""A bounded queue of records on disk, for sources that cannot be pushed back.

It is a folder of segments, ``<number>.spool``, each a row of frames: the payload's length (4 bytes,
little-endian), its xxh3-64 (8 bytes), the payload.  Frames are appended to the newest segment and
read from the oldest, which is removed once it has been read to its end.  Writes go to the page
cache: they survive the end of the process, however it ends, and not that of the machine.

Where reading stands is kept in memory only: after a restart the oldest segment is read again from
its beginning.  So records must have ids by which a repetition is recognised.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import xxhash

from pipeline.core.batch import OutRecord
from pipeline.core.errors import MailstreamError

log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 8 << 20
LONGEST_FRAME: Final = 64 << 20
"""A length beyond this is not one: the file is damaged."""

_HEAD: Final = struct.Struct("<IQ")
_SUFFIX: Final = ".spool"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[bytes, bytes | None, list[tuple[str, bytes]]]).decode


@dataclass(slots=True)
class _Segment:
    path: Path
    number: int
    bytes: int
    records: int


class Spool:
    """Records on disk, first in, first out."""

    def __init__(self, folder: Path, limit: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Use *folder* for at most *limit* bytes; what an earlier process left in it is kept.

        Raises:
            MailstreamError: The folder cannot be used.
        """
        self._folder = folder
        self._limit = limit
        self._segment_bytes = segment_bytes
        self._segments: deque[_Segment] = deque()
        self._read = 0
        """Bytes of the oldest segment that are done with."""
        self._read_records = 0
        self._lock: int | None = None
        self._handle: int | None = None
        """Of the newest segment, if this process made it."""
        self.damaged = 0
        """Segments of which an end could not be read."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._find()
        except BlockingIOError as exc:
            raise MailstreamError(f"{folder}: another process uses this spool") from exc
        except OSError as exc:
            raise MailstreamError(f"{folder}: cannot be used for a spool: {exc.strerror}") from exc

    @property
    def size(self) -> int:
        """Return the bytes on disk."""
        return sum(segment.bytes for segment in self._segments)

    @property
    def records(self) -> int:
        """Return how many records wait."""
        return sum(segment.records for segment in self._segments) - self._read_records

    def __bool__(self) -> bool:
        return bool(self._segments)

    def append(self, records: Sequence[OutRecord]) -> int:
        """Append *records*, as many as there is room for; return how many those are."""
        room = self._limit - self.size
        frames: list[bytes] = []
        size = 0
        for record in records:
            frame = _framed(_encode((record.value, record.key, record.headers)))
            if size + len(frame) > room:
                break
            size += len(frame)
            frames.append(frame)
        if frames and not self._write(b"".join(frames), len(frames)):
            return 0
        return len(frames)

    def peek(self, most: int) -> Sequence[OutRecord]:
        """Return the oldest records, at most *most*, all of one segment; they stay until :meth:`drop`."""
        while self._segments:
            oldest = self._segments[0]
            try:
                found = list(islice(_frames(oldest.path, self._read), most))
            except FileNotFoundError:
                found = []
            if found:
                return [_record(payload) for payload in found]
            self.damaged += 1  # what was written could be read then
            self._remove_oldest()
        return []

    def drop(self, records: Sequence[OutRecord]) -> None:
        """Remove *records*, which are what :meth:`peek` has returned."""
        oldest = self._segments[0]
        self._read += sum(
            _HEAD.size + len(_encode((one.value, one.key, one.headers))) for one in records
        )
        self._read_records += len(records)
        if self._read >= oldest.bytes:
            self._remove_oldest()

    def close(self) -> None:
        """Let go of the files; another process may use the spool then."""
        self._close_newest()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _close_newest(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _find(self) -> None:
        """Take over the segments that are there; of a torn one what is whole."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if not path.stem.isdigit():
                continue
            payloads = [len(payload) for payload in _frames(path, 0)]
            whole, size = sum(payloads) + _HEAD.size * len(payloads), path.stat().st_size
            if whole < size:
                self.damaged += 1
                log.warning(
                    "the end of a spool segment cannot be read",
                    extra={"path": str(path), "bytes": size - whole},
                )
            if payloads:
                self._segments.append(_Segment(path, int(path.stem), whole, len(payloads)))
            else:
                path.unlink()

    def _write(self, text: bytes, records: int) -> bool:
        """Write frames to the newest segment; tell whether all of them are there."""
        newest = self._segments[-1] if self._segments else None
        try:
            if newest is None or self._handle is None or newest.bytes >= self._segment_bytes:
                newest = self._new_segment()
            assert self._handle is not None, "the newest segment is open"
            if _written(self._handle, text, newest.bytes):
                newest.bytes += len(text)
                newest.records += records
                return True
        except OSError as exc:
            log.error(  # noqa: TRY400  the system's sentence says all
                "the spool cannot be written", extra={"error": exc.strerror}
            )
        if newest is not None and not newest.records:
            self._forget(newest)
        return False

    def _new_segment(self) -> _Segment:
        number = self._segments[-1].number + 1 if self._segments else 0
        path = self._folder / f"{number:012d}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        handle = os.open(path, flags, 0o600)
        self._close_newest()
        self._handle = handle
        segment = _Segment(path, number, 0, 0)
        self._segments.append(segment)
        return segment

    def _remove_oldest(self) -> None:
        self._read = self._read_records = 0
        self._forget(self._segments[0])

    def _forget(self, segment: _Segment) -> None:
        if segment is self._segments[-1]:
            self._close_newest()
        self._segments.remove(segment)
        segment.path.unlink(missing_ok=True)


def _written(handle: int, text: bytes, at: int) -> bool:
    """Write all of *text* at the offset *at*; what was written of it is taken back if that fails."""
    done = 0
    try:
        while done < len(text):
            done += os.pwrite(handle, text[done:], at + done)
    except OSError as exc:
        log.error("the spool cannot be written", extra={"error": exc.strerror})  # noqa: TRY400  as above
        os.ftruncate(handle, at)
        return False
    return True


def _framed(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), xxhash.xxh3_64_intdigest(payload)) + payload


def _frames(path: Path, at: int) -> Iterator[bytes]:
    """Yield the payloads of a segment from the offset *at* on, up to the first damage."""
    with path.open("rb") as file:
        file.seek(at)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, digest = _HEAD.unpack(head)
            payload = file.read(length) if length <= LONGEST_FRAME else b""
            if len(payload) != length or xxhash.xxh3_64_intdigest(payload) != digest:
                return
            yield payload


def _record(payload: bytes) -> OutRecord:
    value, key, headers = _decode(payload)
    return OutRecord(value, key, headers)
