"""The level of zstd: aiokafka compresses at level 3 and has no setting for it.

Measured on enriched events (cramjam 2, batches of 10,000): level 3 takes 1.2 us per event, level
1 takes 0.6 us and makes no larger batches; snappy takes 0.9 us and makes twice the bytes, lz4 at
aiokafka's level 9 takes 3.2 us.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from aiokafka import codec
from aiokafka.record._crecords import default_records

ZSTD_LEVEL: Final = 1


def set_zstd_level() -> None:
    """Make aiokafka's record batches of this process compress at :data:`ZSTD_LEVEL`."""
    builder: Any = default_records
    builder.zstd_encode = partial(codec.zstd_encode, level=ZSTD_LEVEL)
