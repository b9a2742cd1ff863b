"""Requests about transactions that aiokafka 0.14 does not have (KIP-664).

``DescribeTransactions`` (65) tells a coordinator's view of a transactional id,
``DescribeProducers`` (61) a partition's view of its producers, and ``WriteTxnMarkers`` (27)
ends a transaction in a partition, as ``kafka-transactions.sh abort`` does.
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_NO_TAGS: dict[int, bytes] = {}

TopicPartitions = list[tuple[str, list[int]]]
"""Partition numbers by topic."""


class DescribeTransactionsResponse(Response):
    """States by transactional id."""

    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", _TEXT),
                ("state", _TEXT),
                ("timeout_ms", Int32),
                ("start_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class DescribeTransactionsStruct(RequestStruct):
    """Version 0."""

    FLEXIBLE_VERSION = True
    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_TEXT)), _TAGS)


class DescribeTransactionsRequest(Request[DescribeTransactionsStruct]):
    """Asks the coordinator of a transactional id."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        """Ask about one id."""
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[DescribeTransactionsStruct]) -> Any:
        """Return the request on the wire."""
        return request_struct_class([self._transactional_id], _NO_TAGS)


class DescribeProducersResponse(Response):
    """Active producers by partition."""

    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", _TEXT),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("transaction_start", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class DescribeProducersStruct(RequestStruct):
    """Version 0."""

    FLEXIBLE_VERSION = True
    API_KEY = 61
    API_VERSION = 0
    RESPONSE_TYPE = DescribeProducersResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        _TAGS,
    )


class DescribeProducersRequest(Request[DescribeProducersStruct]):
    """Asks the leader of some partitions."""

    API_KEY = 61

    def __init__(self, partitions: TopicPartitions) -> None:
        """Ask about *partitions*, all led by the same broker."""
        self._partitions = partitions

    def build(self, request_struct_class: type[DescribeProducersStruct]) -> Any:
        """Return the request on the wire."""
        topics = [(topic, numbers, _NO_TAGS) for topic, numbers in self._partitions]
        return request_struct_class(topics, _NO_TAGS)


class WriteTxnMarkersResponse(Response):
    """An error code by producer id and partition."""

    API_KEY = 27
    API_VERSION = 1
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                (
                    "topics",
                    CompactArray(
                        ("topic", _TEXT),
                        (
                            "partitions",
                            CompactArray(("partition", Int32), ("error_code", Int16), _TAGS),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class WriteTxnMarkersStruct(RequestStruct):
    """Version 1: the epoch may equal the producer's, as that of a lost marker does."""

    FLEXIBLE_VERSION = True
    API_KEY = 27
    API_VERSION = 1
    RESPONSE_TYPE = WriteTxnMarkersResponse
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("committed", Boolean),
                (
                    "topics",
                    CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS),
                ),
                ("coordinator_epoch", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class WriteTxnMarkersRequest(Request[WriteTxnMarkersStruct]):
    """Ends one producer's transaction in one partition."""

    API_KEY = 27

    def __init__(
        self,
        producer_id: int,
        producer_epoch: int,
        coordinator_epoch: int,
        topic: str,
        partition: int,
        *,
        committed: bool,
    ) -> None:
        """Write a marker to one partition, at its leader."""
        topics = [(topic, [partition], _NO_TAGS)]
        self._marker = (
            producer_id,
            producer_epoch,
            committed,
            topics,
            coordinator_epoch,
            _NO_TAGS,
        )

    def build(self, request_struct_class: type[WriteTxnMarkersStruct]) -> Any:
        """Return the request on the wire."""
        return request_struct_class([self._marker], _NO_TAGS)
