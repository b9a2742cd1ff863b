"""Headers of raw records: what the producer says about a record beside its value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from pipeline.core.batch import Record, header
from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import RESERVED_VALUES
from pipeline.core.pane import BASE_PANE_MS, FUTURE_AFTER_MS
from pipeline.core.timestamp import MIN_MS, rfc3339
from pipeline.enrich.forms import Form, Forms
from pipeline.enrich.memo import Memo

MAX_RECEIVED_MS: Final = BASE_PANE_MS * ((1 << 32) - 1) - FUTURE_AFTER_MS
"""Panes have 32 bits in delta frames, and an event may be newer than its ingest: the year 3331."""
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
MAX_ID: Final = 1000
MAX_NAME: Final = 256
"""Bytes; an API key's name has up to 64 characters of up to four."""


@dataclass(frozen=True, slots=True)
class Head:
    """The headers that the events of one post share."""

    source: str
    feed: str
    origin: str
    received_ms: int
    received: str
    """*received_ms* as RFC 3339."""
    id_prefix: bytes
    """What stands before the event id in the text whose hash the seen-set stores."""
    form: Form
    """What the records look like."""


class Refused(NamedTuple):
    """A record that cannot be used."""

    record: Record
    source: str | None
    """From its headers, if these could be read."""
    error: RecordError


@dataclass(slots=True)
class Headed:
    """The records of a batch whose headers can be read, as columns of equal length."""

    records: list[Record] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)


Shared = tuple[bytes, bytes, bytes, bytes]


class Heads:
    """Reads headers; what the records of one post have in common is read once."""

    def __init__(self, forms: Forms) -> None:
        """Know the *forms* of records, and start with nothing cached."""
        self._heads: Memo[Shared, Head] = Memo(partial(read_head, forms))

    def read_all(self, records: Sequence[Record]) -> tuple[Headed, list[Refused]]:
        """Return the records whose headers can be read, in their order, and the others."""
        headed, refused = Headed(), []
        for record in records:
            try:
                event_id, head = self.read(record.headers)
            except RecordError as error:
                refused.append(Refused(record, None, error))
                continue
            headed.records.append(record)
            headed.ids.append(event_id)
            headed.heads.append(head)
        return headed, refused

    def read(self, headers: Sequence[tuple[str, bytes]]) -> tuple[str, Head]:
        """Return the event id and the other headers.

        Raises:
            RecordError: A header is missing or unusable.
        """
        try:
            (
                (name0, event_id),
                (name1, source),
                (name2, feed),
                (name3, origin),
                (
                    name4,
                    received,
                ),
            ) = headers
        except ValueError:
            return self._read_any_order(headers)
        if (
            name0 == "id"
            and name1 == "source"
            and name2 == "feed"
            and name3 == "origin"
            and name4 == "received"
        ):
            return read_id(event_id), self._heads[source, feed, origin, received]
        return self._read_any_order(headers)

    def _read_any_order(self, headers: Sequence[tuple[str, bytes]]) -> tuple[str, Head]:
        found = {name: header(headers, name) for name in ("id", "source", "feed", "origin")}
        received = header(headers, "received")
        missing = [name for name, value in (*found.items(), ("received", received)) if not value]
        if missing:
            raise _unusable(missing[0], "is missing")
        source, feed, origin = found["source"] or b"", found["feed"] or b"", found["origin"] or b""
        return read_id(found["id"]), self._heads[source, feed, origin, received or b""]


def read_id(value: bytes | None) -> str:
    """Return the event id of the header ``id``.

    Raises:
        RecordError: It is missing, not ASCII or too long.
    """
    if not value or not value.isascii() or len(value) > MAX_ID:
        raise _unusable("id", f"is not an ASCII text of 1 to {MAX_ID} bytes")
    return value.decode("ascii")


def read_head(forms: Forms, shared: Shared) -> Head:
    """Return the headers ``source``, ``feed``, ``origin`` and ``received``.

    Raises:
        RecordError: One is unusable.
    """
    source, feed, origin = (
        _name(header_name, value)
        for header_name, value in zip(("source", "feed", "origin"), shared[:3], strict=True)
    )
    form = forms.get((source, feed))
    if form is None:
        raise _unusable("source", "with this feed is not a source of mail events")
    received_ms = _received(shared[3])
    return Head(
        source,
        feed,
        origin,
        received_ms,
        rfc3339(received_ms),
        f"{source}|".encode(),
        form,
    )


def _name(header_name: str, value: bytes | None) -> str:
    if not value or len(value) > MAX_NAME:
        raise _unusable(header_name, f"is not a text of 1 to {MAX_NAME} bytes")
    try:
        name = value.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _unusable(header_name, "is not UTF-8") from exc
    if name in RESERVED_VALUES or _CONTROL.search(name) is not None:  # it may be part of a key
        raise _unusable(header_name, "is reserved or has a control character")
    return name


def _received(value: bytes | None) -> int:
    if not value or len(value) > len(str(MAX_RECEIVED_MS)) or not value.isdigit():
        raise _unusable("received", "is not a decimal number of milliseconds")
    received_ms = int(value)
    if not MIN_MS <= received_ms <= MAX_RECEIVED_MS:
        raise _unusable("received", "is out of range")
    return received_ms


def _unusable(name: str, why: str) -> RecordError:
    return RecordError(Reason.MISSING_HEADER, f"header {name} {why}")
