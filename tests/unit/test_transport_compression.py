"""The level of zstd in aiokafka's compiled builder."""

from __future__ import annotations

import random

import cramjam
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.transport.compression import ZSTD_LEVEL, set_zstd_level

ZSTD = 4
HEADER = 61
"""Bytes of a record batch before its records, which alone are compressed."""


def test_the_builder_takes_our_level() -> None:
    rng = random.Random(1)
    values = [
        b'{"user":"u%d","code":%d}' % (rng.randrange(900), rng.randrange(9)) for _ in range(500)
    ]

    def built(codec: int) -> bytes:
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1 << 20)
        for place, value in enumerate(values):
            builder.append(place, 1, None, value, [])
        return bytes(builder.build())

    set_zstd_level()
    records = built(0)[HEADER:]
    assert built(ZSTD)[HEADER:] == bytes(cramjam.zstd.compress(records, level=ZSTD_LEVEL))
    assert bytes(cramjam.zstd.compress(records, level=3)) != built(ZSTD)[HEADER:]
