"""Roll-up frames: what the rows of closed panes of 1 and 5 minutes add up to, as columns.

A record of ``mail.rollups`` adds to one pane of one *tier* (a pane length); frames of one pane add up.
A transaction writes frames together with the position in ``mail.deltas``, so that with *D* that
position (``deltas_end``) and *C* the tier's ``closed_until`` exactly the rows that lie before *D* in
the log and in panes that start before *C* are in frames.

Layout, version 1, MessagePack of an array: ``[version, length_ms, families]``, with families as in
:mod:`pipeline.core.delta`; a row's pane is the first base pane of the tier's pane.  Distinct values
are those last seen in the pane, in frames of the tier whose panes the longest of their windows is
made of.  Frames of tier :data:`PANES_TIER` are another thing: rows that are published, which no window
is made of (:mod:`pipeline.core.publication`); so are those of tier :data:`WATCH`: families that no reader
of panes knows, good for any epoch.  Headers: ``deltas_end``, ``closed_until`` (JSON, ms by pane length in
ms), ``schema``, ``epoch`` and ``token`` as in :class:`Cut`, ``tier`` (the pane length in ms, or one of these).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from pipeline.core.delta import FamilyRows
from pipeline.core.pane import HOUR_MS, MINUTE_MS
from pipeline.core.versioned import decoder_of

VERSION: Final = 1
TIERS_MS: Final = (MINUTE_MS, 5 * MINUTE_MS)
"""Lengths of panes that are rolled up; shorter ones are needed for minutes only."""
WATCH: Final = "watch"
"""Header ``tier`` of frames that hold what anomaly detection learned, for itself alone."""
PANES_TIER: Final = 0
"""Stands among tiers for the panes that are published: they are closed by themselves, and go on through
a new epoch, because what was published stays published.
"""
GRACE_MS: Final = MINUTE_MS
"""How long after its end a pane stays open for what comes out of order."""
LATE_EVERY_MS: Final = 5 * MINUTE_MS
"""Late rows of closed panes are written at most once in this time."""
SKEW_MS: Final = MINUTE_MS
"""Clock skew allowed between machines where records are looked up by their time."""


class RollupFrame(msgspec.Struct, array_like=True, gc=False):
    """One record of ``mail.rollups``."""

    version: int
    length_ms: int
    families: list[FamilyRows]


_encode = msgspec.msgpack.Encoder().encode
_decode = decoder_of(RollupFrame, "roll-up frame", {VERSION})
_decode_closed = msgspec.json.Decoder(dict[int, int]).decode


def encode_rollup(length_ms: int, families: list[FamilyRows]) -> bytes:
    """Return the record value of one frame."""
    return _encode(RollupFrame(VERSION, length_ms, families))


def decode_rollup(value: bytes) -> RollupFrame:
    """Return the frame of a record value.

    Raises:
        FrameVersionError: The frame was written by a newer program.
        InvariantError: The bytes are no frame.
    """
    return _decode(value)


@dataclass(frozen=True, slots=True)
class Cut:
    """How far a partition was rolled up by one transaction: the metadata of its offset."""

    schema: str
    """What frames hold (:attr:`pipeline.core.batch.RollupStep.schema`): of others nothing is used."""
    epoch: str
    """Frames count only with others of their epoch: it begins with a re-fold of the deltas alone."""
    token: str
    """Unique per transaction; its frames carry it too."""
    closed_until: Mapping[int, int]
    """By pane length in ms: start of the first pane, in ms, that is not closed."""
    deltas_end: int = 0
    """The committed position in ``mail.deltas``."""

    @property
    def panes_until(self) -> int:
        """Return the start of the first pane that is not closed for consumers, in ms; 0 if none is."""
        return self.closed_until.get(PANES_TIER, 0)

    def encode(self) -> str:
        """Return the metadata text; the position is the offset's own."""
        closed = [number for pair in sorted(self.closed_until.items()) for number in pair]
        return " ".join(
            [f"rollup{VERSION}", self.schema, self.epoch, self.token, *map(str, closed)]
        )

    def headers(self, tier: int | str) -> list[tuple[str, bytes]]:
        """Return the headers of a frame of this transaction; *tier* is a pane length in ms."""
        closed = {str(length): until for length, until in sorted(self.closed_until.items())}
        return [
            ("deltas_end", str(self.deltas_end).encode()),
            ("closed_until", msgspec.json.encode(closed)),
            ("schema", self.schema.encode()),
            ("epoch", self.epoch.encode()),
            ("token", self.token.encode()),
            ("tier", str(tier).encode()),
        ]


def decode_cut(deltas_end: int, metadata: str) -> Cut | None:
    """Return the cut of a committed offset, or None if no roll-up of this version wrote it."""
    fields = metadata.split(" ")
    if len(fields) < 4 or len(fields) % 2 or fields[0] != f"rollup{VERSION}":
        return None
    try:
        numbers = [int(field) for field in fields[4:]]
    except ValueError:
        return None
    closed = dict(zip(numbers[::2], numbers[1::2], strict=True))
    return Cut(fields[1], fields[2], fields[3], closed, deltas_end)


def cut_in(headers: Sequence[tuple[str, bytes]]) -> Cut | None:
    """Return the cut of the transaction that wrote a frame, or None if these are not its headers."""
    told = dict(headers)
    try:
        closed = _decode_closed(told["closed_until"])
        schema, epoch, token = (told[name].decode() for name in ("schema", "epoch", "token"))
        return Cut(schema, epoch, token, closed, int(told["deltas_end"]))
    except (KeyError, ValueError, msgspec.MsgspecError):
        return None


class _Written(Protocol):
    @property
    def timestamp(self) -> int | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def of_use(frame: _Written, now_ms: int) -> bool:
    """Tell whether a window can still show the pane of a record of ``mail.rollups``.

    Frames are written after their pane ended: panes of a minute, which make windows of up to an
    hour, are over once their frame is older.  Most frames of a day are.
    """
    tier = dict(frame.headers).get("tier")
    if tier != str(MINUTE_MS).encode():
        return tier != str(PANES_TIER).encode()
    return (frame.timestamp or now_ms) > now_ms - HOUR_MS - SKEW_MS


def deltas_since(cut: Cut, now_ms: int, margin_ms: int) -> int:
    """Return the record time from which deltas may hold rows that no frame has.

    Those of the last five minutes are needed in any case: shorter panes are in no frame.
    """
    until = [end for tier, end in cut.closed_until.items() if tier != PANES_TIER]
    return min([now_ms - max(TIERS_MS), *until]) - margin_ms
