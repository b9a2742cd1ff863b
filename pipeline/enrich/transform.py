"""Raw values to encoded events, one at a time: decode, check, normalise, encode.

Only an event's encoding and the few fields that are counted outlive its turn.  A batch of event
objects does not fit the processor's caches: going over it stage by stage took twice as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import msgspec
import numpy as np

from pipeline.core import posted
from pipeline.core.errors import Reason, RecordError
from pipeline.core.posted import PostedEvent, check_fields
from pipeline.core.timestamp import epoch_ms, rfc3339
from pipeline.enrich.columns import Row, row_of
from pipeline.enrich.head import Headed
from pipeline.enrich.memo import Memo
from pipeline.enrich.normalise import Normaliser, drop_empty

_decode = msgspec.json.Decoder(PostedEvent).decode
_encode = msgspec.json.Encoder().encode
_QUOTE: Final = 0x22
_UNDERSCORE: Final = 0x5F
_BACKSLASH: Final = 0x5C
_LOOK_AT_ONCE: Final = 1 << 18
"""Bytes whose flags stay in the processor's caches."""
_FRACTIONS: Final = {f"{number:03d}": number for number in range(1000)}
_SLOW: Final = -1


@dataclass(slots=True)
class Transformed:
    """What became of some records, as columns of equal length, and those that cannot be used."""

    places: list[int] = field(default_factory=list)
    """Each one's place among the records of the batch."""
    values: list[bytes] = field(default_factory=list)
    """The encoded ``MailEvent``s."""
    rows: list[Row] = field(default_factory=list)
    posted_ms: list[int] = field(default_factory=list)
    """What their timestamps say."""
    event_ms: list[int] = field(default_factory=list)
    """The times at which they count."""
    refused: dict[int, RecordError] = field(default_factory=dict)
    """The errors of the others, by place."""

    def keep(self, wanted: set[int]) -> None:
        """Keep the records at the places *wanted*, in the order of the log."""
        order = sorted((place, index) for index, place in enumerate(self.places) if place in wanted)
        indices = [index for _place, index in order]
        self.places = [self.places[index] for index in indices]
        self.values = [self.values[index] for index in indices]
        self.rows = [self.rows[index] for index in indices]
        self.posted_ms = [self.posted_ms[index] for index in indices]
        self.event_ms = [self.event_ms[index] for index in indices]


class Transformer:
    """Transforms records; holds nothing but caches."""

    def __init__(self) -> None:
        """Start with empty caches."""
        self._seconds: Memo[str, int] = Memo(_second_ms)
        self._normaliser = Normaliser()

    def transform(self, headed: Headed, places: Sequence[int], into: Transformed) -> None:
        """Add what the records of *headed* at *places* become to *into*."""
        values = [headed.records[place].value for place in places]
        normalise, time = self._normaliser.apply, self._time
        add_value, add_row = into.values.append, into.rows.append
        add_posted_ms, add_event_ms = into.posted_ms.append, into.event_ms.append
        for place, value, odd in zip(places, values, look(values), strict=True):
            try:
                event = decode(value)
                if odd:
                    drop_empty(event)
                check_fields(event, suspicious=odd)
                posted_ms = time(event)
            except RecordError as error:
                into.refused[place] = error
                continue
            event_ms = normalise(event, headed.ids[place], headed.heads[place], posted_ms)
            into.places.append(place)
            add_value(_encode(event))
            add_row(row_of(event))
            add_posted_ms(posted_ms)
            add_event_ms(event_ms)

    def _time(self, event: PostedEvent) -> int:
        """Return the event time, and spell the timestamp as ours are.

        What ``timestamp.epoch_ms`` does, cached by the second.
        """
        text = event.timestamp
        if type(text) is str and len(text) == 24 and text[23] == "Z" and text[19] == ".":
            second_ms = self._seconds[text[:19]]
            fraction = _FRACTIONS.get(text[20:23])
            if second_ms != _SLOW and fraction is not None:
                return second_ms + fraction
        posted_ms = epoch_ms(text)  # type: ignore[arg-type]  # check_fields requires one
        event.timestamp = rfc3339(posted_ms)
        return posted_ms


def decode(value: bytes | None) -> PostedEvent:
    """Return the event of a raw record's value; fields that only we set may still be in it.

    Raises:
        RecordError: It is not an event.
    """
    if value is None:
        raise RecordError(Reason.MALFORMED, "the record has no value")
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return posted.decode(value)  # says what is wrong, or that only dropped fields are


def look(values: Sequence[bytes | None]) -> list[bool]:
    """Tell which JSON values hold a rarity: a backslash, an empty string, a string ``"_...``.

    Looks at many at once, 0.1 µs each.  May say so of a value that holds none.
    """
    odd = np.zeros(len(values), np.bool_)
    first = 0
    while first < len(values):
        sizes = list(accumulate(len(value or b"") for value in values[first : first + 500]))
        behind = first + max(1, int(np.searchsorted(sizes, _LOOK_AT_ONCE)))
        chunk = values[first:behind]
        text = np.frombuffer(b"".join(value or b"" for value in chunk), np.uint8)
        quote, following = text[:-1] == _QUOTE, text[1:]
        rare = (following == _QUOTE) | (following == _UNDERSCORE)
        rare &= quote
        rare |= following == _BACKSLASH  # no value begins with one
        if rare.any():
            odd[first + np.searchsorted(sizes, np.flatnonzero(rare), side="right")] = True
        first = behind
    return odd.tolist()


def _second_ms(text: str) -> int:
    """Return the start of a second as 19 characters name it; -1 if that is not its usual name."""
    try:
        second_ms = epoch_ms(f"{text}.000Z")
    except RecordError:
        return _SLOW
    return second_ms if rfc3339(second_ms).startswith(text) else _SLOW
