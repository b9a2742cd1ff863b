"""Decoding of frames that begin with a version: MessagePack arrays, read or refused as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeVar

import msgspec

from pipeline.core.errors import FrameVersionError, InvariantError


class Versioned(Protocol):
    """A frame: a struct whose first field is its version."""

    version: int


Frame = TypeVar("Frame", bound=Versioned)

_decode_any = msgspec.msgpack.Decoder(list[Any]).decode


def decoder_of(
    frame_type: type[Frame], what: str, readable: Collection[int]
) -> Callable[[bytes], Frame]:
    """Return the function that decodes record values to frames of *frame_type*.

    It raises FrameVersionError for a version that is not *readable*, whatever follows the version,
    and InvariantError for bytes that are no frame; both name the frame as *what*.
    """
    decode = msgspec.msgpack.Decoder(frame_type).decode

    def frame_of(value: bytes) -> Frame:
        try:
            frame = decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            version = _version(value)
            if version is not None and version not in readable:
                raise FrameVersionError(f"{what} of version {version}") from exc
            raise InvariantError(f"not a {what}: {exc}") from exc
        if frame.version not in readable:
            raise FrameVersionError(f"{what} of version {frame.version}")
        return frame

    return frame_of


def _version(value: bytes) -> int | None:
    try:
        fields = _decode_any(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return fields[0] if fields and isinstance(fields[0], int) else None
