"""Where the poller of one server stands, as the compacted topic ``checkpoints`` keeps it.  Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from pipeline.core.errors import FrameVersionError, InvariantError

VERSION: Final = 1


class Checkpoint(NamedTuple):
    """Times of attempts (``actionunixtime``), seconds since the epoch.

    They are taken from rows, never from our clock: a server whose log lags behind, or whose clock
    is wrong, loses nothing.
    """

    newest_s: int
    """The newest attempt that was written."""
    swept_s: int
    """Everything up to here was written, whenever the message itself was sent."""

    def encode(self) -> bytes:
        """Return it as the record's value."""
        return msgspec.json.encode(_Stored(VERSION, self.newest_s, self.swept_s))


class _Stored(msgspec.Struct):
    version: int
    newest: int
    swept: int


_decode: Final = msgspec.json.Decoder(_Stored).decode


def key_of(server: str) -> bytes:
    """Return the record key of a server's checkpoint."""
    return f"cpanel/{server}".encode()


def decode(value: bytes) -> Checkpoint:
    """Return the checkpoint of a record's value.

    Raises:
        FrameVersionError: A newer program wrote it.
        InvariantError: It is no checkpoint.
    """
    try:
        stored = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvariantError(f"a checkpoint cannot be read: {exc}") from exc
    if stored.version != VERSION:
        raise FrameVersionError(f"a checkpoint of version {stored.version}; known is {VERSION}")
    return Checkpoint(stored.newest, stored.swept)
