"""Simulated days in front of the detector: what was planted is told once and soon, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailstream.simulation.traffic import SimulatedEvent, compromised_user
from pipeline.detect.alerts import Kind
from tests.kit.detection import (
    HOUR,
    MINUTE,
    PANE,
    START,
    Raised,
    Watch,
    blocked,
    busiest_address,
    days,
    hijack,
    kinds,
    merged,
)

SEED, RATE = 3, 5.0
USER = (compromised_user(SEED, 200),)
ADDRESS = (busiest_address(SEED), "google")
Span = tuple[int, int]


def with_faults(
    stolen: Span, refused: Span, start_ms: int = START, hours: int = 24
) -> Iterator[SimulatedEvent]:
    traffic = days(SEED, start_ms=start_ms, hours=hours, rate=RATE)
    return merged(blocked(traffic, *ADDRESS, *refused), hijack(SEED, *stolen))


def assert_told_once_and_soon(raised: list[Raised], stolen: Span, refused: Span) -> None:
    assert kinds(raised) == [
        (Kind.HIJACKED_ACCOUNT, USER, False),
        (Kind.HIJACKED_ACCOUNT, USER, True),
        (Kind.IP_BLOCKED, ADDRESS, False),
        (Kind.IP_BLOCKED, ADDRESS, True),
    ]
    for (begin, end), (begun, over) in ((raised[:2], stolen), (raised[2:], refused)):
        assert 0 <= begin.at_ms - begun <= 2 * MINUTE
        assert end.alert.since == begin.alert.since
        assert begun - PANE < begin.alert.since <= begun + 2 * MINUTE
        assert end.alert.until is not None
        assert over - PANE <= end.alert.until <= over + PANE


def test_a_hijacked_account_and_a_blocked_address_are_told_once_within_two_minutes() -> None:
    stolen = START + 9 * HOUR + 4 * MINUTE + 50_000, START + 11 * HOUR
    refused = START + 13 * HOUR + 2 * MINUTE, START + 15 * HOUR
    raised = Watch().run(with_faults(stolen, refused))
    assert_told_once_and_soon(raised, stolen, refused)
    evidence = raised[0].alert.evidence
    assert evidence["signals"]
    assert evidence["score"] >= 1
    assert evidence["client_ips"]
    assert evidence["destinations"]
    assert raised[2].alert.evidence["block_ratio"] >= 0.25


def test_restarts_in_the_middle_of_episodes_do_not_show() -> None:
    start = START + 10 * HOUR
    stolen = start + 2 * HOUR + 30_000, start + 3 * HOUR
    refused = start + 4 * HOUR + 90_000, start + 5 * HOUR
    watch, next_restart = Watch(), start
    for one in with_faults(stolen, refused, start, 6):
        if one.at_ms >= next_restart:
            watch.restart()
            next_restart += 11 * MINUTE
        watch.run([one])
    assert_told_once_and_soon(watch.raised, stolen, refused)


def test_a_day_without_a_fault_raises_nothing() -> None:
    assert kinds(Watch().run(days(1))) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 21))
def test_seven_days_without_a_fault_raise_nothing(seed: int) -> None:
    assert kinds(Watch().run(days(seed, hours=7 * 24, rate=5.0))) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_day_at_the_demo_s_own_rate_raises_nothing() -> None:
    assert kinds(Watch().run(days(1, rate=50.0, users=2000))) == []
