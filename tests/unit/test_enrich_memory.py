"""The memory of phase 1: whose it is, how it is handed on, and how it stays within bounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.core.batch import TopicPartition
from pipeline.core.errors import InvariantError
from tests.kit.enrich import HARAKA, RECEIVED, ZONEMTA, Phase1, Raw, posted, raw, values


def test_a_partition_warmed_from_its_runs_knows_what_was_seen() -> None:
    first = Phase1()
    batch = [raw(posted(), offset) for offset in range(50)]
    run = values(first.commit(batch), "seen")[0]
    second = Phase1()
    for _ in range(2):
        second.step.warm(ZONEMTA, run)
    assert second.stats.dedupe_ids == 50
    assert second.commit(batch).events == 0
    with pytest.raises(InvariantError):
        second.step.warm(ZONEMTA, b"x")


def test_partitions_are_apart_and_forgotten_when_closed() -> None:
    phase1 = Phase1()
    phase1.commit([raw(posted(), 0)])
    assert phase1.commit([raw(posted(), 0)], HARAKA).events == 1
    phase1.step.close(ZONEMTA)
    phase1.step.close(TopicPartition("mail.raw.zonemta", 9))
    assert phase1.stats.dedupe_ids == 1
    phase1.step.open(ZONEMTA)
    assert phase1.commit([raw(posted(), 0)]).events == 1


def many(first: int, number: int, received: int) -> Sequence[Raw]:
    return [raw(posted(), offset, received=received) for offset in range(first, first + number)]


def test_too_many_ids_shorten_the_horizon() -> None:
    phase1 = Phase1(max_ids=240)
    assert phase1.stats.dedupe_horizon_s == 6 * 3600
    for place in range(30):
        phase1.commit(many(place * 10, 10, RECEIVED + place * 60_000))
    assert 200 <= phase1.stats.dedupe_ids <= 240
    assert 0 < phase1.stats.dedupe_horizon_s < 30 * 60
    other = many(0, 10, RECEIVED)
    phase1.commit(other, HARAKA)
    assert phase1.stats.dedupe_ids <= 240
    phase1.step.close(ZONEMTA)
    assert phase1.stats.dedupe_horizon_s == 6 * 3600


def test_more_partitions_than_room_leaves_some_without_memory() -> None:
    partitions = [TopicPartition("mail.raw.zonemta", number) for number in range(5)]
    phase1 = Phase1(*partitions, max_ids=24)
    for tp in partitions:
        phase1.commit(many(0, 20, RECEIVED), tp)
    assert phase1.stats.dedupe_ids <= 24
