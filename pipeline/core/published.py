"""Records of ``mail.panes``: what happened to one key in five minutes, as JSON for consumers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import KEY_SEPARATOR
from pipeline.core.publication import (
    BUCKETS,
    DELIVERED,
    PUBLISHED_MS,
    FamilyPanes,
    PaneFrame,
    decode_panes,
)
from pipeline.core.timestamp import rfc3339

_TYPES: Final = len(EVENT_TYPES)


class PublishedPane(msgspec.Struct, kw_only=True, gc=False):
    """What a record of ``mail.panes`` adds to one pane of one key and event type."""

    family: str
    key: list[str]
    """The values of the family's fields, in its order (docs/metrics.md)."""
    event_type: str
    start: str
    """When the pane begins, RFC 3339 in UTC."""
    length_s: int = PUBLISHED_MS // 1000
    count: int
    """Events."""
    recipients: int = 0
    bytes: int = 0
    """Of messages accepted for sending, as in ``mail_user_recipients`` and ``mail_user_bytes``."""
    delivery_ms_sum: int | float = 0
    """Of delivered events that tell how long it took."""
    delivery_ms_buckets: list[int] = msgspec.field(default_factory=list)
    """How many of them took up to each bound of :data:`pipeline.core.tally.BOUNDS_SECONDS` and more
    than the one before; the last is for what took longer.  Empty where none tells.
    """
    partial: bool = False
    """Whether the pane is, or may be, more than what its first closing told."""


encode_pane: Final = msgspec.json.Encoder().encode


def records_of(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each record that a frame becomes, always in the same order.

    Raises:
        FrameVersionError: The frame was written by a newer program.
        InvariantError: The bytes are no such frame.
    """
    frame = decode_panes(value)
    start = rfc3339(frame.start_ms)
    for family in frame.families:
        yield from _records_of(family, frame, start)


def _records_of(family: FamilyPanes, frame: PaneFrame, start: str) -> Iterator[tuple[bytes, bytes]]:
    rows = family.rows.columns(len(family.keys))
    kind, values = rows.kind.astype(np.int64), rows.sums
    event_type = np.where(kind < _TYPES, kind, DELIVERED)
    found, inverse = np.unique(rows.key_index * _TYPES + event_type, return_inverse=True)
    sums = np.zeros((len(values), len(found)), np.int64)
    for column, one in zip(sums, values, strict=True):
        np.add.at(column, inverse, one)
    buckets: dict[int, list[int]] = {}
    timed = np.flatnonzero(kind >= _TYPES)
    for place, bucket, count in zip(
        inverse[timed].tolist(),
        (kind[timed] - _TYPES).tolist(),
        values[0][timed].tolist(),
        strict=True,
    ):
        buckets.setdefault(place, [0] * BUCKETS)[bucket] += count
    key_index, event_type = np.divmod(found, _TYPES)
    for place, (key, number, *four) in enumerate(
        zip(key_index.tolist(), event_type.tolist(), *sums.tolist(), strict=True)
    ):
        fields = family.keys[key].split(KEY_SEPARATOR)
        count, recipients, size, took_ms = four
        pane = PublishedPane(
            family=family.family,
            key=fields,
            event_type=EVENT_TYPES[number],
            start=start,
            count=count,
            recipients=recipients,
            bytes=size,
            delivery_ms_sum=took_ms,
            delivery_ms_buckets=buckets.get(place, []),
            partial=frame.partial,
        )
        yield encode_key([pane.family, fields, pane.event_type]), encode_pane(pane)


encode_key: Final = msgspec.json.Encoder().encode
