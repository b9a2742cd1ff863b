"""MessagePack as ZoneMTA writes it: by the npm package msgpack-js 0.3, older than today's format.

Its byte c4 is JavaScript's ``undefined``, alone; the format has made that the head of binary data
since.  Every entry about a delivery ends with one (``httpResponse``), so a reader of the standard
takes none of them.  d8 and d9 are its buffers, today an extension and a short text.  All else is
the same.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Final

import msgspec

from pipeline.core.errors import Reason, RecordError

_DEEPEST: Final = 16
_CONSTANTS: Final[Mapping[int, Any]] = {0xC0: None, 0xC2: False, 0xC3: True, 0xC4: None}
_NUMBERS: Final = {
    code: Struct(f">{form}") for code, form in zip((*range(0xCA, 0xD4),), "fdBHIQbhiq", strict=True)
}
_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_UNDEFINED: Final = 0xC4

_standard: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode


def decode(datagram: bytes) -> dict[str, Any]:
    """Return the map that a datagram holds, without what is undefined in it.

    What cannot be read as msgpack-js writes it is read as the standard says, in case a later
    ZoneMTA does.

    Raises:
        RecordError: It is neither, or no map with texts for keys.
    """
    try:
        value = _Reader(datagram).whole()
    except (ValueError, UnicodeDecodeError):
        try:
            return _standard(datagram)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as exc:
            raise RecordError(Reason.MALFORMED, "not MessagePack") from exc
    if not isinstance(value, dict):
        raise RecordError(Reason.MALFORMED, "not a map")
    return value


class _Reader:
    """Reads one text; raises ValueError where it cannot."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0
        self._sized: Mapping[int, tuple[Struct, Callable[[int, int], Any]]] = {
            0xD8: (_U16, self._buffer),
            0xD9: (_U32, self._buffer),
            0xDA: (_U16, self._string),
            0xDB: (_U32, self._string),
            0xDC: (_U16, self._array),
            0xDD: (_U32, self._array),
            0xDE: (_U16, self._map),
            0xDF: (_U32, self._map),
        }

    def whole(self) -> Any:
        """Return the one value that the text is."""
        value = self._value(0)
        if self._at != len(self._text):
            raise ValueError("there is more behind it")
        return value

    def _value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        code = self._take(1)[0]
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 0x100
        if code < 0xC0:
            return self._short(code, depth)
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        number = _NUMBERS.get(code)
        if number is not None:
            return number.unpack(self._take(number.size))[0]
        if code not in self._sized:
            raise ValueError("no such type")
        size, read = self._sized[code]
        return read(size.unpack(self._take(size.size))[0], depth)

    def _short(self, code: int, depth: int) -> Any:
        """Return a value whose size stands in its first byte."""
        if code < 0x90:
            return self._map(code & 0x0F, depth)
        if code < 0xA0:
            return self._array(code & 0x0F, depth)
        return self._string(code & 0x1F, depth)

    def _map(self, size: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(size):
            name = self._value(depth + 1)
            if not isinstance(name, str):
                raise ValueError("a key is no text")  # noqa: TRY004  the text is at fault
            is_undefined = self._text[self._at : self._at + 1] == bytes([_UNDEFINED])
            value = self._value(depth + 1)
            if not is_undefined:
                found[name] = value
        return found

    def _array(self, size: int, depth: int) -> list[Any]:
        return [self._value(depth + 1) for _ in range(size)]

    def _string(self, size: int, _depth: int) -> str:
        return self._take(size).decode()

    def _buffer(self, size: int, _depth: int) -> bytes:
        return self._take(size)

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._text):
            raise ValueError("it ends too early")
        taken = self._text[self._at : end]
        self._at = end
        return taken
