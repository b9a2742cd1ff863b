"""A post of GELF over HTTP: one message, or several, a line each.

A post that is repeated, because it was not answered, has the same ids: they are made of the body
and of each message's place in it, where the message has no queue id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

import orjson
import xxhash

from pipeline.core.batch import Output
from pipeline.kit.settings import TopicSettings
from producers.appender import by_partition
from producers.gelf.records import TOPIC, RecordMaker
from producers.haul import Haul
from producers.posting import Post, Rejection, Sender, TooManyEventsError

_LINE_END: Final = b"\n"


class GelfPost(Post):
    """One post on its way to raw records: let :meth:`take` run to its end."""

    def __init__(
        self,
        body: bytes,
        sender: Sender,
        received_ms: int,
        maker: RecordMaker,
        most: int,
        topics: TopicSettings,
    ) -> None:
        """Make records of up to *most* messages of *body* with *maker*.

        Raises:
            TooManyEventsError: It holds more.
        """
        super().__init__(sender)
        self._topics = topics
        self._received_ms = received_ms
        self._maker = maker
        self._occurrence = f"{sender.origin} {xxhash.xxh3_128_hexdigest(body)}"
        body = body.strip()
        self._messages = [body]
        if _LINE_END in body and not (len(body) <= maker.max_bytes and _is_json(body)):
            if body.count(_LINE_END) >= most:
                raise TooManyEventsError
            self._messages = [line for line in map(bytes.strip, body.split(_LINE_END)) if line]
        self.is_single = len(self._messages) == 1
        self.haul = Haul()

    @property
    def outputs(self) -> Sequence[Output]:
        """Return the records by partition."""
        topics = self._topics
        return by_partition(self.haul.records, topics.names.of(TOPIC), topics.partitions)

    @property
    def written(self) -> int:
        """Return how many records there are: noise makes none."""
        return len(self.haul.records)

    @property
    def discarded(self) -> Mapping[StrEnum, int]:
        """Return how many messages are no records, by reason."""
        return self.haul.discarded

    def take(self, at_once: int) -> Iterator[None]:
        """Turn the messages into records or rejections, and yield after so many *at_once*."""
        for place, message in enumerate(self._messages):
            occurrence = f"{self._occurrence} {place}"
            error = self._maker.take(
                message, self.sender.origin, occurrence, self._received_ms, self.haul
            )
            if error is None:
                self.accepted += 1
            else:
                self.rejected.append(Rejection(place, error))
            if place % at_once == at_once - 1:
                yield


def _is_json(body: bytes) -> bool:
    """Tell whether the body is one JSON value, be it on several lines."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
