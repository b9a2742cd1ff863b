"""Privacy of posted events: what is taken out before anything is stored.

Recipient addresses, also those that a remote server quotes in its reply, become
``<keyed hash>@domain``: the domain says where mail went, the hash lets one recipient's failures be
told from many recipients'.  Without the key nobody can test a guessed address against a hash.

Pure: the key is a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from pipeline.core.posted import FREE_TEXT, PostedEvent
from pipeline.core.pseudonym import Pseudonyms

_MAX_QUOTED: Final = 64  # RFC 5321, 4.5.3.1.1; it also bounds the work on a reply of quotes
_MAX_LOOSE: Final = 256

# One token up to its last sign, never entered again once left (possessive), and only at its
# beginning (look-behind): linear on any text.  Locals may hold what SRS, VERP and percent hacks
# put there.
_SIGN: Final = r"[@\uff20\ufe6b]"
_LOCAL: Final = r"""[^\s<>()\[\]:;,"@\uff20\ufe6b]"""
_DOMAIN: Final = r"(\[[0-9A-Za-z.:]{2,64}\]|[\w.\-]*+)"
_UNQUOTED: Final = rf"(?<!{_LOCAL}){_LOCAL}++(?:{_SIGN}{_LOCAL}*+(?={_SIGN}))*+"
_QUOTED: Final = rf"""(?<!\\)\"(?:[^"\\]|\\.){{1,{_MAX_QUOTED}}}+\""""
# What stands between quotation marks before a sign, however it is escaped or how long it is.
_LOOSE: Final = rf"""(?<!")"++[^"]{{1,{_MAX_LOOSE}}}+"++"""
_PLAIN: Final = re.compile(f"({_QUOTED}|{_LOOSE}|{_UNQUOTED}){_SIGN}{_DOMAIN}")
# The same in a link or in HTML, where other escapes may stand in the local.
_ESCAPED_SIGN: Final = r"(?:%(?:25)*40|&#0*64;|&#[xX]0*40;|&commat;|\\u0040)"
_ESCAPED_BEFORE: Final = r"""[^\s<>()\[\]:;,"@&?/]"""
_ESCAPED_LOCAL: Final = r"""(?:[^\s<>()\[\]:;,"@%&?/\\]|%(?!(?:25)*40)|\\(?!u0040))"""
_ESCAPED: Final = re.compile(
    rf"((?<!{_ESCAPED_BEFORE}){_ESCAPED_LOCAL}++"
    rf"(?:{_ESCAPED_SIGN}{_ESCAPED_LOCAL}*+(?={_ESCAPED_SIGN}))*+){_ESCAPED_SIGN}{_DOMAIN}"
)
_ESCAPES: Final = ("%40", "%25", "&#", "&commat;", "\\u0040")
_WIDE_SIGNS: Final = ("\uff20", "\ufe6b")

_REPLY_FIELDS: Final = (*FREE_TEXT, "error_code")
_SENDER_FIELDS: Final = ("user", "login", "auth_user", "from_user", "from_address", "from_")
_CLIENT_FIELDS: Final = {"zonemta": ("client_ip",), "haraka": ("client_ip", "source_ip")}
"""By source: ZoneMTA's ``source_ip`` is the address of ours that the mail left from."""


class Privacy:
    """The privacy rules of one installation."""

    def __init__(
        self, key: bytes, *, keep_recipients: bool = False, pseudonymise: Collection[str] = ()
    ) -> None:
        """Hash with *key*; *pseudonymise* names what is hashed beside recipients.

        Args:
            key: Any length; a key of more than 64 bytes is hashed to fit.
            keep_recipients: Leave recipients as they are, also in replies.
            pseudonymise: Any of ``user``, ``client_ip``.  With ``user``, addresses in replies are
                hashed even where recipients are kept: a sender's may be among them.
        """
        self._names = Pseudonyms(key)
        self._recipients = not keep_recipients
        self._user = "user" in pseudonymise
        self._client = "client_ip" in pseudonymise
        self._replies = self._recipients or self._user
        self._address = lru_cache(maxsize=16_384)(self._names.address)
        self._changes = 0

    def hash(self, text: str) -> str:
        """Return the keyed hash of *text*, case folded: 16 hex digits."""
        return self._names.hash(text)

    def address(self, text: str) -> str:
        """Return ``<hash>@domain`` of an address, or the hash of a text that is none."""
        return self._address(text)

    def redact(self, reply: str) -> str:
        """Return *reply* with every address in it hashed."""
        if "@" in reply or (not reply.isascii() and any(sign in reply for sign in _WIDE_SIGNS)):
            reply = _PLAIN.sub(self._quoted, reply)
        if any(escape in reply for escape in _ESCAPES):
            reply = _ESCAPED.sub(self._quoted, reply)
        return reply

    def recipient(self, text: str) -> str:
        """Return what is stored of a recipient's address."""
        return self._address(text) if self._recipients else text

    def sender(self, text: str) -> str:
        """Return what is stored of a sender's address or an account's name."""
        return self._address(text) if self._user else text

    def client(self, text: str) -> str:
        """Return what is stored of the address of a client."""
        return self.hash(text) if self._client else text

    def reply(self, text: str) -> str:
        """Return what is stored of a text that may quote addresses."""
        return self.redact(text) if self._replies else text

    def apply(self, event: PostedEvent, source: str) -> bool:
        """Take out what must not be stored; tell whether the event changed."""
        before = self._changes
        if self._replies and (event.response_message or event.error_message or event.error_code):
            self._apply_replies(event)
        if self._recipients and (event.to or event.to_user or event.to_hash or event.to_domain):
            self._apply_recipient(event)
        if self._user:
            self._hash_fields(event, _SENDER_FIELDS)
        if self._client:
            for name in _CLIENT_FIELDS[source]:
                text = getattr(event, name)
                if text:
                    setattr(event, name, self.hash(text))
                    self._changes += 1
        return self._changes != before

    def _apply_replies(self, event: PostedEvent) -> None:
        for name in _REPLY_FIELDS:
            text = getattr(event, name)
            if text and (redacted := self.redact(text)) != text:
                setattr(event, name, redacted)
                self._changes += 1

    def _apply_recipient(self, event: PostedEvent) -> None:
        self._hash_fields(event, ("to", "to_user"))
        if event.to_hash and "@" in event.to_hash:  # else it is the sender's own hash
            self._hash_fields(event, ("to_hash",))
        if event.to_domain and "@" in event.to_domain:
            event.to_domain = event.to_domain.rpartition("@")[2]
            self._changes += 1

    def _hash_fields(self, event: PostedEvent, names: tuple[str, ...]) -> None:
        for name in names:
            text = getattr(event, name)
            if text:
                setattr(event, name, self._address(text))
                self._changes += 1

    def _quoted(self, match: re.Match[str]) -> str:
        local, domain = match.groups()
        lead = ""
        if local[0] == "'":  # a quotation mark around the address, not a part of it
            lead, local = "'", local[1:]
        name = domain.rstrip(".-_")
        return f"{lead}{self.hash(f'{local}@{name}')}@{name.lower()}{domain[len(name) :]}"
