"""Laws of the simulated traffic: what the demo, the tests and the benches may rely on."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstream.simulation.arrivals import diurnal
from mailstream.simulation.replies import RECEIVERS
from mailstream.simulation.traffic import (
    EVENTS_PER_ARRIVAL,
    RETRY_MINUTES,
    SimulatedEvent,
    compromised_user,
    traffic,
)
from mailstream.simulation.world import world
from pipeline.core import posted
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS

SEEDS = st.integers(0, 2**32)
STARTS = st.integers(1_600_000_000_000, 2_000_000_000_000)
MIDNIGHT = 20_000 * DAY_MS


def first(count: int, seed: int, start_ms: int = MIDNIGHT, **options: Any) -> list[SimulatedEvent]:
    return list(islice(traffic(seed, start_ms, **options), count))


@given(SEEDS, STARTS)
@settings(max_examples=10, deadline=None)
def test_the_same_seed_and_start_give_the_same_events(seed: int, start_ms: int) -> None:
    assert first(300, seed, start_ms) == first(300, seed, start_ms)


def test_another_seed_gives_other_events() -> None:
    assert first(100, 1) != first(100, 2)


@given(SEEDS, STARTS)
@settings(max_examples=20, deadline=None)
def test_every_event_is_one_that_ingest_accepts_whole(seed: int, start_ms: int) -> None:
    for simulated in first(400, seed, start_ms, flood_after_ms=0):
        assert simulated.event.keys() <= posted.ACCEPTED_NAMES
        event = posted.decode(orjson.dumps(simulated.event))
        assert posted.check(event, posted.encode(event)) == simulated.event_ms


@given(SEEDS, STARTS)
@settings(max_examples=10, deadline=None)
def test_events_come_in_order_of_posting_and_never_before_they_happen(
    seed: int, start_ms: int
) -> None:
    events = first(500, seed, start_ms)
    assert [event.at_ms for event in events] == sorted(event.at_ms for event in events)
    assert all(start_ms <= event.at_ms and event.event_ms <= event.at_ms for event in events)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_an_id_comes_again_only_as_a_repeat_of_the_same_event(seed: int) -> None:
    originals: dict[str, dict[str, Any]] = {}
    for simulated in first(2000, seed, repeats=0.2):
        event_id = simulated.event["event_id"]
        if simulated.repeat:
            assert originals[event_id] == simulated.event
        else:
            assert event_id not in originals
            originals[event_id] = simulated.event


def test_repeats_and_late_events_are_as_frequent_as_asked() -> None:
    events = first(20_000, 5, repeats=0.1, late=0.2)
    repeats = sum(event.repeat for event in events)
    late = sum(not event.repeat and event.at_ms - event.event_ms > 3000 for event in events)
    assert 0.08 < repeats / (len(events) - repeats) < 0.12
    assert 0.15 < late / (len(events) - repeats) < 0.22


def test_nothing_is_repeated_or_late_when_none_of_it_is_asked_for() -> None:
    events = first(3000, 5, repeats=0.0, late=0.0)
    assert not any(event.repeat for event in events)
    assert all(event.at_ms - event.event_ms < 3000 for event in events)


def test_a_duration_ends_the_traffic() -> None:
    events = list(traffic(1, MIDNIGHT, rate=100, duration_ms=10_000))
    assert events
    assert all(MIDNIGHT <= event.at_ms < MIDNIGHT + 10_000 for event in events)


@given(st.integers(1, 10**9))
def test_the_mean_of_the_diurnal_rate_is_one(start_ms: int) -> None:
    steps = [diurnal(start_ms + n * MINUTE_MS) for n in range(24 * 60)]
    assert sum(steps) / len(steps) == pytest.approx(1.0)
    assert min(steps) > 0


def test_the_rate_is_the_asked_one_over_a_day_and_swings_within_it() -> None:
    by_hour: Counter[int] = Counter()
    for event in traffic(
        11, MIDNIGHT, rate=2, duration_ms=DAY_MS, repeats=0.0, flood_after_ms=None
    ):
        by_hour[(event.at_ms - MIDNIGHT) // HOUR_MS] += 1
    assert sum(by_hour.values()) / 86_400 == pytest.approx(2, rel=0.08)
    assert by_hour[14] > 2 * by_hour[2]
    assert EVENTS_PER_ARRIVAL > 1


def chains(events: list[SimulatedEvent]) -> dict[tuple[str, str], list[SimulatedEvent]]:
    """Group the attempts at one recipient, in order of time."""
    found = defaultdict(list)
    for event in sorted(events, key=lambda event: event.event_ms):
        if "seq" in event.event and not event.repeat:
            found[event.event["queue_id"], event.event["seq"]].append(event)
    return found


def test_each_recipient_is_tried_until_delivered_or_bounced() -> None:
    events = list(traffic(4, MIDNIGHT, rate=3, duration_ms=3 * HOUR_MS))
    sent = {
        event.event["queue_id"]: event
        for event in events
        if event.event["event_type"] == "sent" and not event.repeat
    }
    finished = 0
    for (queue_id, seq), attempts in chains(events).items():
        if queue_id not in sent:
            continue  # its first event was posted late, after the end
        assert int(seq) <= sent[queue_id].event["recipients"]
        kinds = [attempt.event["event_type"] for attempt in attempts]
        assert set(kinds[:-1]) <= {"deferred"}
        numbers = [attempt.event["attempt"] for attempt in attempts]
        assert numbers == sorted(set(numbers))
        assert len(kinds) <= len(RETRY_MINUTES) + 1
        for attempt in attempts:
            took_ms = attempt.event["delivery_time_ms"]
            assert attempt.event_ms >= sent[queue_id].event_ms
            assert attempt.event["to_domain"] == attempts[0].event["to_domain"]
            assert took_ms > 0
        finished += kinds[-1] in {"delivered", "bounced"}
    assert finished > 5000


def test_an_address_of_ours_is_told_exactly_when_there_was_a_connection() -> None:
    for simulated in first(5000, 9):
        event = simulated.event
        if "seq" in event:
            assert ("sending_ip" in event) == ("response_code" in event)


def test_every_provider_and_every_outcome_occurs() -> None:
    events = first(30_000, 2)
    kinds = {event.event["event_type"] for event in events}
    assert kinds == {"sent", "delivered", "deferred", "bounced", "rejected", "received"}
    assert {event.source for event in events} == {"zonemta", "haraka"}
    assert any(event.event.get("zone") == "bounces" for event in events)
    domains = {event.event.get("to_domain") for event in events}
    assert all(set(receiver.domains) <= domains for receiver in RECEIVERS)


def test_the_shares_of_the_providers_add_up_to_the_whole() -> None:
    assert sum(receiver.share for receiver in RECEIVERS) == pytest.approx(1)


def test_the_compromised_account_is_quiet_then_floods_many_places_and_mostly_fails() -> None:
    user = compromised_user(6)
    events = list(traffic(6, MIDNIGHT, rate=100, duration_ms=4 * MINUTE_MS))
    flood_begins = MIDNIGHT + MINUTE_MS
    mine = [event for event in events if event.event.get("from_address") == user]
    before = [event for event in mine if event.event_ms < flood_begins]
    after = [event for event in mine if event.event_ms >= flood_begins]
    kinds = Counter(event.event["event_type"] for event in after)
    assert len(before) < 10
    assert len(after) > 500
    assert kinds["bounced"] + kinds["deferred"] > kinds["delivered"]
    assert len({event.event.get("to_domain") for event in after}) > 30
    assert len({event.event.get("client_ip") for event in after}) > 10


def test_a_world_without_a_flood_can_be_had() -> None:
    user = compromised_user(6)
    events = traffic(6, MIDNIGHT, rate=100, duration_ms=3 * MINUTE_MS, flood_after_ms=None)
    assert sum(event.event.get("from_address") == user for event in events) < 10


def test_accounts_are_distinct_and_the_first_ones_send_most() -> None:
    accounts = world(3, 500).accounts.items
    assert len({account.address for account in accounts}) == 500
    events = first(10_000, 3, users=500, flood_after_ms=None)
    senders = Counter(event.event["from_user"] for event in events if "from_user" in event.event)
    top = {account.local for account in accounts[:10]}
    assert sum(senders[local] for local in top) > 0.3 * senders.total()


def test_a_rate_or_a_world_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="rate must be positive"):
        traffic(1, MIDNIGHT, rate=0)
    with pytest.raises(ValueError, match="at least 10 users"):
        traffic(1, MIDNIGHT, users=3)
