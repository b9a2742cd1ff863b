"""Simulated days on the board and in the worker's watch: restarts and failed commits do not show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailstream.simulation.traffic import SimulatedEvent
from pipeline.detect.alerts import Kind
from tests.kit.detection import HOUR, MINUTE, START, Raised, Watch
from tests.kit.watched import Partition
from tests.property.test_detect_days import with_faults

BEGIN, HOURS = START + 10 * HOUR, 4
STOLEN = BEGIN + 80 * MINUTE + 30_000, BEGIN + 110 * MINUTE
REFUSED = BEGIN + 130 * MINUTE + 90_000, BEGIN + 160 * MINUTE


def events() -> Iterator[SimulatedEvent]:
    return with_faults(STOLEN, REFUSED, BEGIN, HOURS)


@pytest.fixture(scope="module")
def recounted() -> list[Raised]:
    """Return what the detectors say of events that were counted one by one, undisturbed."""
    return Watch().run(events())


def episodes(raised: list[Raised]) -> list[tuple[object, ...]]:
    return sorted(
        (one.alert.kind, one.alert.key, one.alert.since, one.alert.until or 0) for one in raised
    )


def assert_all_told(raised: list[Raised], recounted: list[Raised]) -> None:
    assert episodes(raised) == episodes(recounted)
    begun = {one.alert.kind: one.at_ms for one in raised if not one.alert.ends}
    assert len(raised) == 2 * len(begun) == 4
    assert 0 <= begun[Kind.HIJACKED_ACCOUNT] - STOLEN[0] <= 2 * MINUTE
    assert 0 <= begun[Kind.IP_BLOCKED] - REFUSED[0] <= 2 * MINUTE


def test_what_is_planted_is_told_once_within_two_minutes(recounted: list[Raised]) -> None:
    raised = Partition().run(events())
    assert_all_told(raised, recounted)
    assert all(
        "ip_blocked" in one.alert.evidence["classes"] for one in raised if len(one.alert.key) > 1
    )


@pytest.mark.parametrize("anew", [False, True], ids=["with the roll-ups", "without the roll-ups"])
def test_moves_in_the_middle_of_episodes_do_not_show(
    recounted: list[Raised], *, anew: bool
) -> None:
    partition, next_move = Partition(), BEGIN
    for one in events():
        if one.at_ms >= next_move:
            partition.move(one.at_ms, anew=anew)
            next_move += 17 * MINUTE
        partition.run([one])
    assert_all_told(partition.raised, recounted)


def test_a_commit_that_fails_is_made_again(recounted: list[Raised]) -> None:
    partition = Partition()
    for number, one in enumerate(events(), 1):
        if number % 400 == 0:
            partition.tick(one.at_ms, committed=False)
        partition.run([one])
    assert_all_told(partition.raised, recounted)
