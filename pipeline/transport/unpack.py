"""Record batches as the log holds them, unpacked by the batch.

aiokafka's own iterator costs as much per record as parsing it; this does the same, once per
batch, and makes nothing of a record but what the parser made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException

from pipeline.core.batch import Record


class Unpacked(NamedTuple):
    """Records of one partition, in order."""

    records: list[Record]
    size: int
    """Bytes of their values."""


def size_of(records: Iterable[Record]) -> int:
    """Return the bytes of the records' values."""
    return sum([len(record.value or b"") for record in records])


def unpack(result: Any, max_records: int, max_size: int) -> Unpacked:
    """Return the next records of a fetch and move its position behind them.

    Whole record batches are taken until there are *max_records* records or *max_size* bytes,
    so there may be more by one batch; control batches and aborted records are left out.

    Args:
        result: aiokafka's ``FetchResult``.
        max_records: Stop as soon as this many are there.
        max_size: Stop as soon as their values have this many bytes.

    Raises:
        CorruptRecordException: A record batch is broken; the position is before it.
    """
    found: list[Record] = []
    size = 0
    if not result.check_assignment(result._topic_partition):  # sought elsewhere in between
        return Unpacked(found, size)
    source = result._partition_records
    batches = source._records
    while len(found) < max_records and size < max_size and batches.has_next():
        batch = batches.next_batch()
        if source._check_crcs and not batch.validate_crc():
            result._update_position()
            raise CorruptRecordException(f"a broken record batch in {source._tp}")
        if not _is_hidden(source, batch):
            records = list(batch)
            if records and records[0].offset < source.next_fetch_offset:
                records = [each for each in records if each.offset >= source.next_fetch_offset]
            found += records
            size += size_of(records)
        source.next_fetch_offset = batch.next_offset
    result._update_position()
    if not batches.has_next():
        result._partition_records = None
    return Unpacked(found, size)


def _is_hidden(source: Any, batch: Any) -> bool:
    """Tell whether *batch* is a transaction's marker, or was aborted."""
    if source._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        source._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and source._contains_abort_marker(batch):
            source._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in source._aborted_producers:
            return True
    return bool(batch.is_control_batch)
