"""Delta frames built row by row, the slow and obvious way, for tests of the fold and its readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from pipeline.core.delta import (
    VERSION,
    DeltaFrame,
    DistinctRows,
    FamilyRows,
    encode_frame,
    value_hash,
)
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAMILY, KEY_SEPARATOR, Family, Sum


class Row(NamedTuple):
    """One contribution to one family."""

    key: tuple[str, ...]
    event_type: str
    event_ms: int
    events: int = 1
    recipients: int = 0
    bytes: int = 0
    values: Mapping[str, Sequence[str]] = MappingProxyType({})
    """By distinct count."""

    def amount(self, name: Sum) -> int:
        return {Sum.COUNT: self.events, Sum.RECIPIENTS: self.recipients, Sum.BYTES: self.bytes}[
            name
        ]


class FrameRecord(NamedTuple):
    """A record of ``mail.deltas`` as the transport hands it over."""

    value: bytes | None
    offset: int = 0
    timestamp: int | None = None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def family_rows(family: Family, rows: Sequence[Row]) -> FamilyRows:
    """Return the rows as columns, one row of the frame for each."""
    keys = list(dict.fromkeys(KEY_SEPARATOR.join(row.key) for row in rows))
    found = FamilyRows.of(
        family.name,
        keys,
        np.array([keys.index(KEY_SEPARATOR.join(row.key)) for row in rows], np.int64),
        np.array([EVENT_TYPES.index(row.event_type) for row in rows], np.int64),
        np.array([row.event_ms // 10_000 for row in rows], np.int64),
        {name: np.array([row.amount(name) for row in rows], np.int64) for name in family.sums},
        np.array([row.event_ms for row in rows], np.int64) if family.last_event else None,
    )
    for one in family.distincts:
        told = [
            (keys.index(KEY_SEPARATOR.join(row.key)), row.event_ms // 10_000, value_hash(value))
            for row in rows
            for value in row.values.get(one.name, ())
        ]
        columns = [np.array([row[place] for row in told], np.uint64) for place in range(3)]
        found.distincts[one.name] = DistinctRows.of(*columns)
    return found


def frame(
    rows: dict[str, Sequence[Row]], watermark_ms: int = 0, families: Iterable[FamilyRows] = ()
) -> FrameRecord:
    """Return one record with these rows by family name."""
    columns = [family_rows(FAMILY[name], held) for name, held in rows.items()]
    value = DeltaFrame(VERSION, "raw.zonemta", 0, watermark_ms, [*columns, *families])
    return FrameRecord(encode_frame(value))
