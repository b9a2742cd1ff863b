"""GELF messages to raw records: which are written, under which source, key and id.

Pure: the time of receipt and what names one receipt are parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

import orjson
import xxhash

from pipeline.core import gelf
from pipeline.core.batch import OutRecord
from pipeline.core.errors import Reason, RecordError
from pipeline.core.topics import MAX_MESSAGE_BYTES
from producers.gelf.kept import Keeper
from producers.gelf.messages import fields_of, unpack
from producers.gelf.subjects import About, about, noise
from producers.haul import Haul

TOPIC: Final = f"raw.{gelf.SOURCE}"

LARGEST_RECORD: Final = MAX_MESSAGE_BYTES // 2
"""Hashes make a list of short addresses longer; a record that Kafka refuses would never be written."""
_MOST: Final = {"_queue_id": 255, "_message_id": 1000}
"""Characters of what becomes a key."""
_ID_FIELDS: Final = ("_queue_id", "_queue_id_seq", "_component", "_bounce_count")
_MX_ID_FIELDS: Final = ("_to", "_user", "_target_queue_id")
"""Haraka gives one queue id to all recipients of a transaction, and no sequence number."""
_MOST_HEADS: Final = 1000

Bad = Callable[[bytes, RecordError, str, int], None]
"""Is told of a bad message: what is known of its text, what is wrong, who sent it, and when."""


class Drop(StrEnum):
    """Why messages are dropped, beside the reasons that a bad one may have."""

    NOISE = "noise"
    """About neither mail nor logins."""
    UNKNOWN_APPLICATION = "unknown_application"
    NOT_ALLOWED = "not_allowed"
    """The sender's network is not on ``gelf.allow``."""
    SPOOL_FULL = "spool_full"
    """Kafka is away, and the spool on disk has no room."""
    UNAVAILABLE = "unavailable"
    """Kafka did not take them, and there is nowhere to keep them."""


def forget(_text: bytes, _error: RecordError, _origin: str, _received_ms: int) -> None:
    """Keep nothing of a bad message."""


class RecordMaker:
    """Makes records of messages."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        max_bytes: int,
        strict: bool = False,
        keep_unknown: bool = False,
        host: str | None = None,
        bad: Bad = forget,
    ) -> None:
        """Make them of messages up to *max_bytes*, after inflation.

        Args:
            keeper: Cuts them down.
            max_bytes: Largest message.
            strict: Refuse what breaks the format.
            keep_unknown: Write other programs' messages too.
            host: In place of what every message says; None: as it says.
            bad: Told of what cannot be used.
        """
        self._keeper = keeper
        self.max_bytes = max_bytes
        self._strict = strict
        self._keep_unknown = keep_unknown
        self._host = host
        self._bad = bad
        self._heads: dict[tuple[str, str, int], tuple[tuple[str, bytes], ...]] = {}

    def take(
        self, payload: bytes, origin: str, occurrence: str, received_ms: int, haul: Haul
    ) -> RecordError | None:
        """Add what comes of one message to *haul*; return why it cannot be used, or None.

        Args:
            payload: The message, packed or not.
            origin: Who sent it.
            occurrence: Names this receipt and no other: two equal messages are two logins.
            received_ms: When it came.
            haul: Of the messages that came with it.
        """
        haul.received += 1
        text = payload
        try:
            text = unpack(payload, self.max_bytes)
            message = fields_of(text, strict=self._strict)
            if self._host is not None:
                message["host"] = self._host
            word = gelf.word_of(message)
            subject = about(message, word)
            if subject is About.NOISE:
                haul.discarded[Drop.NOISE] += 1
                haul.noise[noise(message, word)] += 1
            elif subject is About.UNKNOWN and not self._keep_unknown:
                haul.discarded[Drop.UNKNOWN_APPLICATION] += 1
            else:
                kept = self._keeper.keep(message, subject, word, received_ms)
                event_id = _event_id(kept, subject, word, text, occurrence)
                source = gelf.LOGIN_SOURCE if subject is About.LOGIN else gelf.SOURCE
                head = self._head(source, origin, received_ms)
                haul.records.append(_record(kept, event_id, head))
        except RecordError as exc:
            haul.discarded[exc.reason] += 1
            self._bad(text, exc, origin, received_ms)
            return exc
        return None

    def _head(self, source: str, origin: str, received_ms: int) -> tuple[tuple[str, bytes], ...]:
        """Return the headers that messages which came together share."""
        key = source, origin, received_ms
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) > _MOST_HEADS:
                self._heads.clear()
            head = self._heads[key] = (
                ("source", source.encode()),
                ("feed", gelf.FEED.encode()),
                ("origin", origin.encode()),
                ("received", b"%d" % received_ms),
            )
        return head


def _record(
    kept: Mapping[str, Any], event_id: str, head: tuple[tuple[str, bytes], ...]
) -> OutRecord:
    """Return the raw record.

    Raises:
        RecordError: It or its key would be too large.
    """
    value = orjson.dumps(kept)
    if len(value) > LARGEST_RECORD:
        raise RecordError(Reason.TOO_LARGE, "larger than a record may be")
    return OutRecord(value, _key(kept, event_id), [("id", event_id.encode()), *head])


def _event_id(
    kept: Mapping[str, Any], subject: About, word: str, text: bytes, occurrence: str
) -> str:
    """Return the id: by content where a queue id tells mails apart, else of this receipt alone."""
    mail = subject is About.MTA or subject is About.MX
    if mail and kept.get("_queue_id"):
        names = (*_ID_FIELDS, *_MX_ID_FIELDS) if subject is About.MX else _ID_FIELDS
        told = "\x1f".join([word, *(str(kept.get(name, "")) for name in names)])
        return xxhash.xxh3_128_hexdigest(told.encode())
    receipt = f"{occurrence}\x1f{xxhash.xxh3_128_hexdigest(text)}"
    return xxhash.xxh3_128_hexdigest(receipt.encode())


def _key(kept: Mapping[str, Any], event_id: str) -> bytes:
    """Return what names the mail, so that its events stay in order.

    Raises:
        RecordError: It is longer than any program writes it.
    """
    for name, most in _MOST.items():
        told = gelf.text(kept, name)
        if told is not None:
            if len(told) > most:
                raise RecordError(Reason.INVALID_FIELD, f"{name} is longer than {most} characters")
            return told.encode()
    return event_id.encode()
