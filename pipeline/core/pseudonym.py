"""Pseudonyms: the keyed hashes that stand for addresses and names.

Producers put them in the place of recipients before anything is stored; who knows the key can tell
whether a pseudonym is that of an address he has.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

HASH_BYTES: Final = 8
"""Half of a hash's hex digits: 64 bits make two of a billion recipients meet with p = 3 %."""

_MAX_KEY: Final = 64
_PERSON: Final = b"mailstream"
_ANGLE: Final = re.compile(r"<([^<>]*)>\s*\Z")
_WHOLE_DOMAIN: Final = re.compile(r"[\w.\-]+|\[[0-9A-Za-z.:]+\]")


class Pseudonyms:
    """The pseudonyms of one key."""

    def __init__(self, key: bytes) -> None:
        """Hash with *key*, of any length; one of more than 64 bytes is hashed to fit."""
        self._key = key if len(key) <= _MAX_KEY else blake2b(key, digest_size=_MAX_KEY).digest()

    def hash(self, text: str) -> str:
        """Return the keyed hash of *text*, case folded: 16 hex digits."""
        folded = text.casefold().encode("utf-8", "surrogatepass")
        return blake2b(folded, digest_size=HASH_BYTES, key=self._key, person=_PERSON).hexdigest()

    def address(self, text: str) -> str:
        """Return ``<hash>@domain`` of an address, or the hash of a text that is none."""
        angle = _ANGLE.search(text)
        bare = (angle[1] if angle else text).strip()
        local, _, domain = bare.rpartition("@")
        if not local or _WHOLE_DOMAIN.fullmatch(domain) is None:
            return self.hash(bare)
        return f"{self.hash(bare)}@{domain.lower()}"
