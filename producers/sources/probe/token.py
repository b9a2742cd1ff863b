"""The token in a probe's mail: unique, authenticated, and easy for any mail server to search for.

35 letters and digits without a break: no quoting in IMAP, nothing to fold at, one word to a
search index, and the case does not matter.  It says when it was sent and for which route, and a
message authentication code over that keeps strangers' mail from counting.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MARK: Final = "mst"
_TIME, _UNIQUE, _ROUTE, _CODE = 6, 3, 4, 7  # bytes: 20 in all, which are 32 letters
_BODY: Final = _TIME + _UNIQUE + _ROUTE
_TOKEN: Final = re.compile(rf"{MARK}([a-z2-7]{{32}})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A token that proved to be ours."""

    text: str
    """In lower case, however it was written."""
    sent_ms: int
    """Wall clock at which the round began."""
    route: bytes
    """Stands for the route's name; compare with :func:`route_mark`."""

    def is_of(self, route: str) -> bool:
        """Tell whether it was sent on this route."""
        return self.route == route_mark(route)


def probe_key(secret: bytes, origin: str) -> bytes:
    """Return the key of one probe: probes that share a secret do not take each other's mail."""
    return hmac.digest(secret, b"probe\0" + origin.encode(), "sha256")


def route_mark(route: str) -> bytes:
    """Return the four bytes that stand for a route in its tokens."""
    return hashlib.blake2b(route.encode(), digest_size=_ROUTE).digest()


def new_token(key: bytes, route: str, now_ms: int) -> str:
    """Return a token that nobody without *key* can make."""
    body = now_ms.to_bytes(_TIME) + secrets.token_bytes(_UNIQUE) + route_mark(route)
    return MARK + base64.b32encode(body + _code(key, body)).decode().lower()


def read_tokens(key: bytes, text: str) -> Iterator[Token]:
    """Yield the tokens in *text* that were made with *key*."""
    for match in _TOKEN.finditer(text):
        whole = base64.b32decode(match[1].upper())
        body, code = whole[:_BODY], whole[_BODY:]
        if hmac.compare_digest(code, _code(key, body)):
            sent_ms = int.from_bytes(body[:_TIME])
            yield Token(match[0].lower(), sent_ms, body[_TIME + _UNIQUE :])


def read_token(key: bytes, text: str) -> Token | None:
    """Return the first token in *text* that was made with *key*."""
    return next(read_tokens(key, text), None)


def _code(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_CODE]
