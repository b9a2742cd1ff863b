"""Records of ``raw.node``: what the node agent writes itself, and what it and plugins post to ingest.

A record's id is a hash of what it says, so that one that is written twice can be told.  Pure: the
time of receipt is a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import xxhash

from pipeline.core.batch import Output, OutRecord
from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import partition_of
from pipeline.core.observation import (
    HEARTBEAT,
    OBSERVATION,
    Heartbeat,
    Observation,
    encode,
    heartbeat,
    observation,
)
from pipeline.core.topics import TopicNames
from producers.posting import Post, Rejection, Sender, TooManyEventsError
from producers.unique_keys import load

TOPIC: Final = "raw.node"
OBSERVATIONS: Final = "observations"
"""The list in the body of a post."""
_MOST_VALUES: Final = 100_000
"""In one body: about a tenth of a second of decoding."""


class NodeRecords(Post):
    """Observations or heartbeats of one sender as records, by partition."""

    def __init__(
        self, sender: Sender, names: TopicNames, partitions: int, received_ms: int
    ) -> None:
        """Make records for the topic of nodes."""
        super().__init__(sender)
        self._topic = names.of(TOPIC)
        self._partitions = partitions
        self._source = ("source", sender.source.encode())
        self._origin = ("origin", sender.origin.encode())
        self._received = ("received", b"%d" % received_ms)
        self._records: dict[int, list[OutRecord]] = {}

    @property
    def outputs(self) -> Sequence[Output]:
        """Return the records."""
        return [
            Output(self._topic, partition, records) for partition, records in self._records.items()
        ]

    def add(self, record: Observation | Heartbeat) -> None:
        """Make a record of it."""
        feed = OBSERVATION if isinstance(record, Observation) else HEARTBEAT
        self.append(record.node, encode(record), feed)

    def append(self, node: str, value: bytes, feed: bytes) -> None:
        """Make a record of an observation or heartbeat that is encoded already."""
        key = node.encode()
        headers = [
            ("id", xxhash.xxh3_128_hexdigest(value).encode()),
            self._source,
            ("feed", feed),
            self._origin,
            self._received,
        ]
        records = self._records.setdefault(partition_of(key, self._partitions), [])
        records.append(OutRecord(value, key, headers))
        self.accepted += 1

    def take(self, items: Sequence[Any], first: int) -> None:
        """Make records of the decoded observations at places *first* and after, or reject them."""
        for place, item in enumerate(items, first):
            try:
                self.add(observation(item))
            except RecordError as exc:
                self.rejected.append(Rejection(place, exc))


def posted_heartbeat(body: bytes) -> Heartbeat:
    """Return the heartbeat of a body.

    Raises:
        RecordError: It is none.
    """
    return heartbeat(load(body))


def posted_observations(body: bytes, most: int) -> list[Any]:
    """Return the items of ``{"observations": [...]}``, not yet checked.

    Raises:
        RecordError: The body is not such an object.
        TooManyEventsError: There are more than *most*, or absurdly many values.
    """
    if body.count(b",") > _MOST_VALUES:
        raise TooManyEventsError
    root = load(body)
    items = root.get(OBSERVATIONS) if isinstance(root, dict) else None
    if not isinstance(items, list):
        raise RecordError(Reason.MALFORMED, f"expected an object with a list of {OBSERVATIONS}")
    if len(items) > most:
        raise TooManyEventsError
    return items
