"""From the body of a post to raw records: decode, check, apply privacy, give ids and keys.

A batch is decoded in one call as long as all of its events have the right types; only when that
fails is each decoded alone, so that one bad event costs the others nothing.

Pure: the time of receipt is a parameter.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec
import xxhash

from pipeline.core.batch import Output, OutRecord
from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import partition_of
from pipeline.core.posted import PostedEvent, check_fields, decode, drop_own, encode, malformed
from pipeline.core.timestamp import epoch_ms
from pipeline.core.topics import TopicNames
from producers.known_names import KnownNames
from producers.privacy import Privacy
from producers.unique_keys import count_key_ends, count_pairs, load, only_these, unknown_keys

FEED: Final = b"hook"

_VALUES_PER_EVENT: Final = 128
_SPARE_VALUES: Final = 65_536


class _Batch(msgspec.Struct, gc=False):
    events: list[PostedEvent]


class _RawBatch(msgspec.Struct, gc=False):
    events: list[msgspec.Raw]


_decode_batch: Final = msgspec.json.Decoder(_Batch).decode
_decode_raw_batch: Final = msgspec.json.Decoder(_RawBatch).decode


class Sender(NamedTuple):
    """Who posted: what the headers of its records say."""

    source: str
    origin: str


class Rejection(NamedTuple):
    """One event of a post that cannot be used."""

    place: int
    """Its place in the batch, counting from 0."""
    error: RecordError


class Post:
    """One post on its way to records: what it holds, and what is counted of it."""

    def __init__(self, sender: Sender) -> None:
        """Begin with nothing."""
        self.sender = sender
        self.accepted = 0
        """What the answer says was taken."""
        self.rejected: list[Rejection] = []
        self.is_single = False
        """Whether it holds one thing, which is refused with a 400 and not in a list."""

    @property
    def outputs(self) -> Sequence[Output]:
        """Return the records by partition, in the order of what was posted."""
        return ()

    @property
    def written(self) -> int:
        """Return how many records there are."""
        return self.accepted

    @property
    def discarded(self) -> Mapping[StrEnum, int]:
        """Return how many things are no records, by reason."""
        return Counter(item.error.reason for item in self.rejected)


class TooManyEventsError(Exception):
    """The batch holds more events or values than one post may."""


class Posting(Post):
    """One post on its way to raw records.

    Use: :meth:`take` some events at a time, in order, then :meth:`finish`.
    """

    def __init__(
        self,
        sender: Sender,
        names: TopicNames,
        partitions: int,
        privacy: Privacy,
        received_ms: int,
        known: KnownNames,
    ) -> None:
        """Make records for the raw topic of *sender*'s source; names that are not *known* are hidden."""
        super().__init__(sender)
        self._topic = names.of(f"raw.{sender.source}")
        self._partitions = partitions
        self._privacy = privacy
        self._known = known
        self._received_ms = received_ms
        self._headers = (
            ("source", sender.source.encode()),
            ("feed", FEED),
            ("origin", sender.origin.encode()),
            ("received", b"%d" % received_ms),
        )
        self._records: dict[int, list[OutRecord]] = {}
        self._key_ends = 0
        self._plain = True
        self.redacted = 0
        """Events that privacy changed."""

    @property
    def outputs(self) -> Sequence[Output]:
        """Return the records by partition, in the order of their events."""
        return [
            Output(self._topic, partition, records) for partition, records in self._records.items()
        ]

    def take(self, events: Sequence[PostedEvent | RecordError], first: int) -> None:
        """Turn the events at places *first* and after into records or rejections."""
        encoded = [self._encoded(event) for event in events]
        joined = b"".join(encoded)
        self._key_ends += count_key_ends(joined)
        underscore = count_pairs(joined, b'"_') > 0
        backslash = b"\\" in joined
        for place, (event, value) in enumerate(zip(events, encoded, strict=True), first):
            try:
                if isinstance(event, RecordError):
                    raise event
                check_fields(
                    event,
                    suspicious=(backslash and b"\\" in value) or (underscore and b'"_' in value),
                )
                epoch_ms(event.timestamp)  # type: ignore[arg-type]  # required by the line before
            except RecordError as exc:
                self.rejected.append(Rejection(place, exc))
            else:
                self._add(event, value, place)

    def finish(self, body: bytes, *, batch: bool) -> int:
        """Make sure that no object of *body* has a key twice; return how many keys were unknown.

        Raises:
            RecordError: One has, or the body is not JSON: none of its records may be written.
        """
        if self._plain and only_these(body, self._key_ends + batch):
            return 0
        return unknown_keys(body, batch=batch)

    def _encoded(self, event: PostedEvent | RecordError) -> bytes:
        if isinstance(event, RecordError):
            self._plain = False
            return b""
        if drop_own(event):
            self._plain = False
        return encode(event)

    def _add(self, event: PostedEvent, value: bytes, index: int) -> None:
        hidden = self._hide_unknown(event)
        if self._privacy.apply(event, self.sender.source) or hidden:
            value = encode(event)
            self.redacted += 1
        event_id = event.event_id or _content_id(event, value, index)
        key = (event.queue_id or event.message_id or event_id).encode()
        partition = partition_of(key, self._partitions)
        record = OutRecord(value, key, [("id", event_id.encode()), *self._headers])
        records = self._records.get(partition)
        if records is None:
            self._records[partition] = [record]
        else:
            records.append(record)
        self.accepted += 1

    def _hide_unknown(self, event: PostedEvent) -> bool:
        """Hash the name of a failed login unless it is known to be an account's; tell whether."""
        if event.event_type == "auth_succeeded":
            for name in (event.user, event.auth_user):
                if name:
                    self._known.succeeded(name, self._received_ms)
        if event.event_type != "auth_failed":
            return False
        tried = next((name for name in (event.user, event.auth_user, event.login) if name), None)
        if tried is None or self._known.has(tried, self._received_ms):
            return False
        event.user = event.auth_user = None
        event.login = self._privacy.hash(tried)
        return True


def decode_one(body: bytes) -> Sequence[PostedEvent | RecordError]:
    """Return the one event of a body, or the error in one of its fields.

    Raises:
        RecordError: The body is not an object.
        TooManyEventsError: It holds absurdly many values.
    """
    _limit_values(body, 1)
    event = _decoded(msgspec.Raw(body))
    if isinstance(event, RecordError) and event.reason is Reason.MALFORMED:
        raise event
    return [event]


def decode_batch(body: bytes, max_events: int) -> Sequence[PostedEvent | RecordError]:
    """Return the events of ``{"events": [...]}``, with an error in the place of each unusable one.

    Raises:
        RecordError: The body is not such an object.
        TooManyEventsError: It holds more than *max_events*, or absurdly many values.
    """
    _limit_values(body, max_events)
    if body.count(b"{") - 1 > max_events:  # some may stand in texts, so count properly
        _limited(_raw_events(body), max_events)
    try:
        return _decode_batch(body).events
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return [_decoded(raw) for raw in _limited(_raw_events(body), max_events)]


def _limit_values(body: bytes, max_events: int) -> None:
    """Bound what a decoder may allocate: 8 MB of ``[],`` would become 150 MB of lists."""
    if body.count(b",") > _VALUES_PER_EVENT * max_events + _SPARE_VALUES:
        raise TooManyEventsError


def _limited(raws: list[msgspec.Raw], max_events: int) -> list[msgspec.Raw]:
    if len(raws) > max_events:
        raise TooManyEventsError
    return raws


def _raw_events(body: bytes) -> list[msgspec.Raw]:
    try:
        return _decode_raw_batch(body).events
    except msgspec.ValidationError as exc:
        raise RecordError(Reason.MALFORMED, str(exc)) from exc
    except UnicodeDecodeError as exc:
        raise malformed(exc) from exc
    except (msgspec.MsgspecError, RecursionError) as exc:
        return _reencoded_events(body, exc)


def _reencoded_events(body: bytes, refused: Exception) -> list[msgspec.Raw]:
    """Look for one event that spoils a text which is JSON by its grammar: half a surrogate pair."""
    root = load(body)
    events = root.get("events") if isinstance(root, dict) else None
    if not isinstance(events, list):
        raise malformed(refused) from refused
    return [msgspec.Raw(_ascii(event)) for event in events]


def _ascii(value: object) -> bytes:
    """Encode with the one encoder that writes half a surrogate pair."""
    return json.dumps(value).encode()


def _decoded(raw: msgspec.Raw) -> PostedEvent | RecordError:
    try:
        return decode(raw)
    except RecordError as exc:
        return exc


def _content_id(event: PostedEvent, value: bytes, index: int) -> str:
    """Return the id of an event that came without one: the same post has the same ids.

    It is taken after privacy: an unkeyed hash of an address would let anyone test a guess.
    """
    if event.queue_id or event.seq:
        return xxhash.xxh3_128_hexdigest(value)
    return xxhash.xxh3_128_hexdigest(b"%b#%d" % (value, index))
