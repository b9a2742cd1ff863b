"""Raw values to encoded events, one at a time: decode, check, normalise, encode.

Only an event's encoding and the few fields that are counted outlive its turn.  A batch of event
objects does not fit the processor's caches: going over it stage by stage took twice as long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import msgspec
import numpy as np

from pipeline.core import posted
from pipeline.core.errors import RecordError
from pipeline.core.posted import PostedEvent, check_fields
from pipeline.core.timestamp import epoch_ms, rfc3339
from pipeline.enrich.bounce_rules import UNCLASSIFIED
from pipeline.enrich.columns import LAYOUT, Layout, Row
from pipeline.enrich.head import Headed
from pipeline.enrich.memo import Memo
from pipeline.enrich.normalise import Normaliser, drop_empty
from pipeline.enrich.parsing import Context, Skip
from pipeline.enrich.probes import NO_PROBES, ProbeAccounts

_decode = msgspec.json.Decoder(PostedEvent).decode
_encode_into = msgspec.json.Encoder().encode_into
_PAIR: Final = np.dtype("<u2")
_RARE_PAIRS: Final = (int.from_bytes(b'""', "little"), int.from_bytes(b'"_', "little"))
_LOOK_AT_ONCE: Final = 200
"""Values whose text stays in the processor's caches."""
_FRACTIONS: Final = {f".{number:03d}Z": number for number in range(1000)}
_SLOW: Final = -1


@dataclass(slots=True)
class Transformed:
    """What became of some records, as columns of equal length, and those that cannot be used."""

    places: list[int] = field(default_factory=list)
    """Each one's place among the records of the batch."""
    values: list[bytes] = field(default_factory=list)
    """The encoded ``MailEvent``s."""
    rows: list[Row] = field(default_factory=list)
    event_ms: list[int] = field(default_factory=list)
    """The times at which they count."""
    future: list[int] = field(default_factory=list)
    """The places of those that claim to be from the future."""
    unclassified: dict[int, str] = field(default_factory=dict)
    """The fingerprints of the failures whose reply no rule knows, by place."""
    refused: dict[int, RecordError] = field(default_factory=dict)
    """The errors of those that cannot be used, by place."""
    skipped: dict[int, Skip] = field(default_factory=dict)
    """Why the others are no events, by place."""

    def keep(self, wanted: set[int]) -> None:
        """Keep the records at the places *wanted*, in the order of the log."""
        order = sorted((place, index) for index, place in enumerate(self.places) if place in wanted)
        indices = [index for _place, index in order]
        self.places = [self.places[index] for index in indices]
        self.values = [self.values[index] for index in indices]
        self.rows = [self.rows[index] for index in indices]
        self.event_ms = [self.event_ms[index] for index in indices]
        self.future = [place for place in self.future if place in wanted]
        self.unclassified = {
            place: text for place, text in self.unclassified.items() if place in wanted
        }
        self.skipped = {place: why for place, why in self.skipped.items() if place in wanted}


class Transformer:
    """Transforms records; holds nothing but caches."""

    def __init__(self, probes: ProbeAccounts = NO_PROBES, layout: Layout = LAYOUT) -> None:
        """Start with empty caches; mail of *probes* is told from that of customers."""
        self._row_of = layout.row_of
        self._seconds: Memo[str, int] = Memo(_second_ms)
        self._normaliser = Normaliser(probes)
        self._buffer = bytearray()

    def transform(self, headed: Headed, places: Sequence[int], into: Transformed) -> None:
        """Add what the records of *headed* at *places* become to *into*."""
        values = [headed.records[place].value or b"" for place in places]
        heads = [headed.heads[place] for place in places]
        ids = [headed.ids[place] for place in places]
        buffer = self._buffer
        normalise, time, row_of = self._normaliser.apply, self._time, self._row_of
        for place, event_id, head, value, odd in zip(
            places, ids, heads, values, look(values), strict=True
        ):
            parse = head.form.parse
            try:
                if parse is None:
                    event = decode(value)
                else:
                    parsed = parse(value, Context(head.origin, head.received_ms))
                    if isinstance(parsed, Skip):
                        into.skipped[place] = parsed
                        continue
                    event, odd = parsed, True  # noqa: PLW2901  what was made was not looked at
                if odd:
                    drop_empty(event)
                check_fields(event, suspicious=odd)
                posted_ms = time(event)
            except RecordError as error:
                into.refused[place] = error
                continue
            event_ms = normalise(event, event_id, head, posted_ms)
            if event_ms != posted_ms:
                into.future.append(place)
            if event.bounce_class == UNCLASSIFIED:
                into.unclassified[place] = self._normaliser.fingerprint(event)
            _encode_into(event, buffer)
            into.places.append(place)
            into.values.append(bytes(buffer))  # 0.5 µs; encode() shrinks what it returns, 1.1 µs
            into.rows.append(row_of(event))
            into.event_ms.append(event_ms)

    def _time(self, event: PostedEvent) -> int:
        """Return the event time, and spell the timestamp as ours are.

        What ``timestamp.epoch_ms`` does, cached by the second.
        """
        text = event.timestamp
        if type(text) is str:
            fraction = _FRACTIONS.get(text[19:])
            if fraction is not None:
                second_ms = self._seconds[text[:19]]
                if second_ms != _SLOW:
                    return second_ms + fraction
        posted_ms = epoch_ms(text)  # type: ignore[arg-type]  # check_fields requires one
        event.timestamp = rfc3339(posted_ms)
        return posted_ms


def decode(value: bytes) -> PostedEvent:
    """Return the event of a raw record's value; fields that only we set may still be in it.

    Raises:
        RecordError: It is not an event.
    """
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return posted.decode(value)  # says what is wrong, or that only dropped fields are


def look(values: Sequence[bytes]) -> list[bool]:
    """Tell which JSON values hold a rarity: a backslash, an empty string, a string ``"_...``.

    Looks at many at once, 0.2 µs each.  May say so of a value that holds none.
    """
    odd: list[bool] = []
    for first in range(0, len(values), _LOOK_AT_ONCE):
        chunk = values[first : first + _LOOK_AT_ONCE]
        odd += _look(b"".join(chunk), list(accumulate(map(len, chunk))))
    return odd


def _look(text: bytes, ends: list[int]) -> list[bool]:
    """Look at values that stand one behind the other in *text*, each up to one of *ends*."""
    odd = [False] * len(ends)
    at = text.find(b"\\")
    while at >= 0:
        place = bisect_right(ends, at)
        odd[place] = True
        at = text.find(b"\\", ends[place])
    for shift, aligned in enumerate((text, b" " + text)):
        pairs = np.frombuffer(aligned, _PAIR, len(aligned) // _PAIR.itemsize)
        for pair in _RARE_PAIRS:
            rare = pairs == pair
            if rare.any():
                for hit in np.flatnonzero(rare).tolist():
                    odd[bisect_right(ends, 2 * hit - shift)] = True
    return odd


def _second_ms(text: str) -> int:
    """Return the start of a second as 19 characters name it; -1 if that is not its usual name."""
    try:
        second_ms = epoch_ms(f"{text}.000Z")
    except RecordError:
        return _SLOW
    return second_ms if rfc3339(second_ms).startswith(text) else _SLOW
