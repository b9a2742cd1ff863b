"""Where a record is in Kafka."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Names one record, as long as its topic is not made anew."""

    topic: str
    partition: int
    offset: int
