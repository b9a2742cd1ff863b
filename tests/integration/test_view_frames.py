"""Roll-up frames as the view reads them: those of the last epoch, and of its own schema alone."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic

from consumers.view.frames import Frames
from pipeline.core.families import FAMILY, Sum
from pipeline.core.pane import HOUR_MS, MINUTE_MS
from pipeline.core.rollup import Cut, encode_rollup
from pipeline.fold.board import Board
from pipeline.kit.clock import SystemClock
from tests.kit.frames import Row, family_rows
from tests.kit.kafka_admin import admin_of
from tests.kit.stand import now_ms

pytestmark = pytest.mark.integration

USER = FAMILY["user"]
WINDOWS = (5 * MINUTE_MS, HOUR_MS)
SCHEMA = Board(WINDOWS).schema


class Written(NamedTuple):
    """A frame with so many events of one user."""

    events: int
    epoch: str = "e1"
    schema: str = SCHEMA
    value: bytes | None = None
    told: bool = True
    """Whether the record has a worker's headers."""


def cut_of(one: Written, now: int, place: int) -> Cut:
    closed = {MINUTE_MS: now // MINUTE_MS * MINUTE_MS}
    return Cut(one.schema, one.epoch, f"t{place}", closed, place)


@asynccontextmanager
async def consumer_of(broker: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker, isolation_level="read_committed", auto_offset_reset="none"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def restored(broker: str, written: Sequence[Written]) -> tuple[int, int | None]:
    """Return the events of the last hour, and the position of the cut, of what was written."""
    topic, now = f"t{uuid.uuid4().hex[:12]}.rollups", now_ms()
    start = now // MINUTE_MS * MINUTE_MS - 10 * MINUTE_MS
    async with admin_of(broker) as admin:
        await admin.create_topics([NewTopic(topic, 2, 1)])
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    try:
        for place, one in enumerate(written):
            rows = family_rows(USER, [Row(("ann",), "sent", start, one.events)])
            await producer.send_and_wait(
                topic,
                one.value or encode_rollup(MINUTE_MS, [rows]),
                partition=0,
                headers=cut_of(one, now, place).headers(MINUTE_MS) if one.told else [],
            )
    finally:
        await producer.stop()
    board = Board(WINDOWS)
    frames = Frames(topic, SCHEMA, board, SystemClock())
    async with consumer_of(broker) as consumer:
        cuts = await frames.restore(consumer, [0, 1])
    assert set(board.partitions) == {0, 1}
    assert 1 not in cuts
    board.complete(0)
    total = int(board.totals(USER, HOUR_MS).sums[Sum.COUNT].sum())
    return total, cuts[0].deltas_end if 0 in cuts else None


@pytest.mark.parametrize(
    ("written", "events", "deltas_end"),
    [
        ([Written(1), Written(2)], 3, 1),
        ([Written(1), Written(2), Written(4, "e2"), Written(8, "e2")], 12, 3),
        ([Written(1), Written(2, "e2", "another")], 0, None),
        ([Written(1, "e1", "another"), Written(2, "e2")], 2, 1),
        ([Written(1), Written(2, value=b"\x93\x02"), Written(4)], 0, None),
        ([Written(1), Written(2, value=b"a test", told=False), Written(4)], 5, 2),
        ([Written(1, value=b"no frame"), Written(2), Written(4, "e2")], 4, 2),
    ],
)
def test_frames_of_the_last_epoch_count(
    broker: str, written: list[Written], events: int, deltas_end: int | None
) -> None:
    assert asyncio.run(restored(broker, written)) == (events, deltas_end)


def test_without_the_topic_nothing_is_closed(broker: str) -> None:
    board = Board(WINDOWS)
    frames = Frames(f"t{uuid.uuid4().hex}.rollups", SCHEMA, board, SystemClock())

    async def restore() -> dict[int, Cut]:
        async with consumer_of(broker) as consumer:
            return await frames.restore(consumer, [0])

    assert asyncio.run(restore()) == {}
    assert board.partitions == {0: False}
