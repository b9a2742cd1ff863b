"""Reading the body of a request within bounds: of size, of time, and of memory in all.

What is made of a body may take ten times its size, and of a packed one a thousand times.  So only
small bodies are worked on at the same time; the others take turns, which costs no time in all.

aiohttp must not inflate bodies itself (``start_site(inflate=False)``): it inflates before anybody
counts.  Here a body is inflated once it has been read, and never beyond the cap.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from aiohttp import web

from pipeline.core.errors import Backpressure, Reason, RecordError

READ_DEADLINE_S: Final = 30.0
RETRY_AFTER_S: Final = 1.0
SMALL_BYTES: Final = 64 << 10

_GZIP: Final = 16 + zlib.MAX_WBITS
_PLAIN: Final = ("", "identity")
_ENCODINGS: Final = ("gzip", "x-gzip")


class TooLargeError(Exception):
    """The body is larger than allowed."""


class EncodingError(Exception):
    """The body is encoded in a way that is not understood."""


class SlowClientError(Exception):
    """The body did not arrive in time."""


class BodyReader:
    """Reads bodies, all of them together within one memory limit."""

    def __init__(self, *, max_body: int, max_inflated: int, max_reading: int) -> None:
        """Limit each body, each inflated body, and all bodies that are held, in bytes."""
        self._max_body = max_body
        self._max_inflated = max_inflated
        self._max_reading = max(max_reading, max_body)
        self._turn = asyncio.Lock()
        self.reading = 0
        """Bytes of bodies, as sent, that are held now."""

    @asynccontextmanager
    async def body(
        self, request: web.Request, deadline_s: float = READ_DEADLINE_S
    ) -> AsyncIterator[bytes]:
        """Hold the body, inflated, until the block is left; may wait for its turn.

        Raises:
            TooLargeError: It is too large, as sent or inflated.
            EncodingError: Its content encoding is neither gzip nor none.
            SlowClientError: It did not arrive in time.
            RecordError: It is not what its encoding says, or the transfer broke off.
            Backpressure: Too much is held at once.
        """
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in (*_PLAIN, *_ENCODINGS):
            raise EncodingError
        if (request.content_length or 0) > self._max_body:
            raise TooLargeError
        with self._held() as hold:
            body = await self._read(request, hold, deadline_s)
            if encoding in _PLAIN and len(body) <= SMALL_BYTES:
                yield body
                return
            async with self._turn:
                yield body if encoding in _PLAIN else inflate(body, self._max_inflated)

    async def _read(self, request: web.Request, hold: _Hold, deadline_s: float) -> bytes:
        parts = []
        size = 0
        try:
            async with asyncio.timeout(deadline_s):
                async for part in request.content.iter_any():
                    size += len(part)
                    if size > self._max_body:
                        raise TooLargeError
                    hold.add(len(part))
                    parts.append(part)
        except TimeoutError as exc:
            raise SlowClientError from exc
        except web.RequestPayloadError as exc:
            raise RecordError(Reason.MALFORMED, "the body broke off") from exc
        return b"".join(parts)

    @contextmanager
    def _held(self) -> Iterator[_Hold]:
        hold = _Hold(self)
        try:
            yield hold
        finally:
            self.reading -= hold.bytes

    def hold(self, size: int) -> None:
        """Count *size* more bytes.

        Raises:
            Backpressure: They are too many.
        """
        if self.reading + size > self._max_reading:
            raise Backpressure("too many requests are being taken", RETRY_AFTER_S)
        self.reading += size


class _Hold:
    """What one request holds."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self.bytes = 0

    def add(self, size: int) -> None:
        self._reader.hold(size)
        self.bytes += size


def inflate(body: bytes, limit: int) -> bytes:
    """Return what gzip packed.

    Raises:
        TooLargeError: It is more than *limit* bytes; no more than that were ever held.
        RecordError: It is not one whole gzip member.
    """
    member = zlib.decompressobj(_GZIP)
    try:
        inflated = member.decompress(body, limit + 1)
    except zlib.error as exc:
        raise RecordError(Reason.MALFORMED, "the body is not gzip") from exc
    if len(inflated) > limit:
        raise TooLargeError
    if not member.eof or member.unused_data:
        raise RecordError(Reason.MALFORMED, "the body is not one whole gzip member")
    return inflated
