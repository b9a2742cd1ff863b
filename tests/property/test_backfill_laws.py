"""Backfill says what the recount says, at every time, from the events or panes that phase 1 made."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.backfill import OTHER, Tally, changes_of, planned, running
from consumers.backfill_distincts import numbers
from consumers.panes import pane_of
from pipeline.core.batch import StepResult
from pipeline.core.errors import RecordError
from pipeline.core.event import MailEvent
from pipeline.core.families import DISTINCT_LIMIT, FAMILIES, FAMILY
from pipeline.core.timestamp import rfc3339
from tests.kit.enrich import HARAKA, ZONEMTA, Phase1, events, frames, raw, rows
from tests.kit.oracle import HOUR, MINUTE, Posted, Recount, Series
from tests.kit.traffic import CLASSES, Shape, Varied

NOW = 1_767_268_800_000
STEP = 5 * MINUTE
WINDOWS = {"5m": 5 * MINUTE, "1h": HOUR}
SAMPLE = re.compile(r'(\w+)\{window="(\w+)",(.*)\} (\d+) ([\d.]+)\n')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

DISTINCT = {one.metric for family in FAMILIES for one in family.distincts}
"""Counts of different values, which panes do not tell."""


class Made(NamedTuple):
    """Events as posted, as phase 1 writes them, and its sums as panes of five minutes."""

    posted: list[Posted]
    events: list[MailEvent]
    panes: list[bytes]


def made(seed: int, count: int) -> Made:
    """Return events of both sources."""
    drawn = Varied(seed=seed, now_ms=NOW, shape=Shape(users=9, ips=3))
    phase1, posted, found = Phase1(ZONEMTA, HARAKA), [], []
    panes: list[bytes] = []
    for source, tp, make in (
        ("zonemta", ZONEMTA, drawn.zonemta),
        ("haraka", HARAKA, drawn.haraka),
    ):
        records = []
        for number in range(count):
            event = make()
            event["event_id"] = f"{source}{number}"
            posted.append(Posted(event, source, NOW))
            records.append(raw(event, source=source, offset=number, received=NOW))
        if records:
            result = phase1.commit(records, tp)
            found += events(result)
            panes += panes_of(result)
    return Made(posted, [msgspec.convert(one, MailEvent) for one in found], panes)


def panes_of(result: StepResult) -> list[bytes]:
    """Return what one batch adds, as records of ``mail.panes``: several of one pane add up."""
    added: dict[tuple[str, tuple[str, ...], str, int], Counter[str]] = defaultdict(Counter)
    for (family, key, event_type, start), amounts in rows(frames(result).values()).items():
        whole = {name: amount for name, amount in amounts.items() if name != "last"}
        added[family, key, event_type, start - start % STEP].update(whole)
    return [
        json.dumps(
            {
                "family": family,
                "key": key,
                "event_type": event_type,
                "start": start,
                "length_s": STEP // 1000,
                **amounts,
                "partial": False,
            }
        ).encode()
        for (family, key, event_type, start), amounts in added.items()
    ]


def shown(tally: Tally) -> dict[tuple[int, str, Series], int]:
    values = {}
    *lines, end = tally.lines()
    assert end == "# EOF\n"
    for line in lines:
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        metric, window, labels, value, at = match.groups()
        series = Series(metric, tuple(value for _, value in LABEL.findall(labels)))
        key = round(float(at) * 1000), window, series
        assert key not in values
        values[key] = int(value)
    return values


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 150))
def test_every_value_is_that_of_the_recount_in_the_moment_before(seed: int, count: int) -> None:
    posted, found, _ = made(seed, count)
    plan = planned(NOW - 3 * HOUR, NOW + 2 * HOUR, STEP, WINDOWS.values(), 1000)
    tally = Tally(plan)
    for event in found:
        tally.add(event)
    recount = Recount(posted, CLASSES)
    expected = {
        (at, window, series): value
        for at in range(plan.since_ms, plan.until_ms + 1, STEP)
        for (window, series), value in recount.at(at - 1, WINDOWS).items()
    }
    assert expected or count < 20
    values = shown(tally)
    assert {key: value for key, value in values.items() if value} == expected
    for (at, window, series), value in values.items():
        if not value:  # one zero after the last value, then nothing
            assert (at - STEP, window, series) in expected


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 150), wide=st.booleans())
def test_panes_tell_what_events_tell_but_for_different_values(
    seed: int, count: int, *, wide: bool
) -> None:
    drawn = made(seed, count)
    step = 3 * STEP if wide else STEP
    plan = planned(NOW - 3 * HOUR, NOW + 2 * HOUR, step, WINDOWS.values(), 5)
    of_events, of_panes = Tally(plan), Tally(plan)
    for event in drawn.events:
        of_events.add(event)
    for pane in drawn.panes:
        of_panes.add_pane(pane_of(pane))
    expected = {
        key: value for key, value in shown(of_events).items() if key[2].metric not in DISTINCT
    }
    assert shown(of_panes) == expected
    assert expected or count < 20


PANE = {"family": "user", "key": ["a"], "event_type": "sent", "start": NOW, "length_s": 300}


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "a"},
        {"key": [1]},
        {"key": ["a", "b"]},
        {"key": []},
        {"event_type": "probe"},
        {"event_type": "nothing"},
        {"length_s": 420},
        {"length_s": 0},
        {"length_s": -300},
        {"start": NOW + 1},
        {"start": "yesterday"},
        {"start": 1e300},
    ],
)
def test_a_pane_that_is_none_of_ours_is_refused(wrong: dict[str, object]) -> None:
    tally = Tally(planned(NOW - HOUR, NOW + HOUR, STEP, WINDOWS.values(), 10))
    tally.add_pane(pane_of(json.dumps({**PANE, "count": 1}).encode()))
    with pytest.raises(RecordError):
        tally.add_pane(pane_of(json.dumps({**PANE, "count": 1, **wrong}).encode()))
    assert tally.counted == 1


def test_panes_of_a_family_that_nobody_knows_or_wants_are_passed_over() -> None:
    plan = planned(NOW - HOUR, NOW + HOUR, STEP, WINDOWS.values(), 10, [FAMILY["ip"]])
    tally = Tally(plan)
    for family in ("user", "of a later release"):
        tally.add_pane(pane_of(json.dumps({**PANE, "family": family, "count": 1}).encode()))
    assert (tally.counted, tally.found) == (0, set())


@given(
    steps=st.dictionaries(st.integers(0, 30), st.sets(st.integers(0, 9)), max_size=12),
    width=st.integers(1, 12),
)
def test_different_values_are_those_of_the_steps_before(
    steps: dict[int, set[int]], width: int
) -> None:
    values = dict(running(dict(numbers(steps, width, 1)), 1))
    for at in range(50):
        seen = set().union(*(held for start, held in steps.items() if at - width <= start < at))
        assert values.get(at, 0) == len(seen)


def test_different_values_are_exact_up_to_the_limit_and_held_no_further() -> None:
    tally = Tally(planned(NOW - HOUR, NOW + HOUR, STEP, WINDOWS.values(), 5, [FAMILY["user"]]))
    for number in range(3 * DISTINCT_LIMIT):
        early = number < DISTINCT_LIMIT - 1
        event = MailEvent(
            event_type="sent",
            direction="outbound",
            user="a@example.com",
            to_domain=f"d{number}.example",
            timestamp=rfc3339(NOW - 2 * STEP if early else NOW),
        )
        tally.add(event)
    values = {
        (at - NOW, window): value
        for (at, window, series), value in shown(tally).items()
        if series.metric == "mail_user_destinations"
    }
    assert values[-STEP, "5m"] == DISTINCT_LIMIT - 1
    assert values[STEP, "5m"] == values[STEP, "1h"] == DISTINCT_LIMIT
    held = tally._distincts.of(FAMILY["user"], "destinations")["a@example.com",]
    assert max(map(len, held.values())) == DISTINCT_LIMIT + 1


@given(
    sums=st.dictionaries(st.integers(0, 60), st.integers(1, 9)),
    width=st.integers(1, 20),
    step=st.integers(1, 5),
)
def test_a_sliding_sum_is_the_sum_of_the_panes_before(
    sums: dict[int, int], width: int, step: int
) -> None:
    panes = {pane * step: amount for pane, amount in sums.items()}
    window = width * step
    values = dict(running(changes_of(panes, window, step), step))
    for at in range(0, (62 + width) * step, step):
        total = sum(amount for pane, amount in panes.items() if at - window <= pane < at)
        assert values.get(at, 0) == total


def test_keys_beyond_the_most_are_summed_so_that_the_whole_stays() -> None:
    posted, found, _ = made(3, 200)
    assert posted
    plans = [planned(NOW - 3 * HOUR, NOW + HOUR, STEP, [HOUR], most) for most in (1000, 2)]
    wholes, keys = [], []
    for plan in plans:
        tally = Tally(replace(plan, families=[FAMILY["user"], FAMILY["ip_provider"]]))
        for event in found:
            tally.add(event)
        whole: Counter[tuple[int, str, str]] = Counter()
        for (at, _, series), value in shown(tally).items():
            kind = series.values[-1] if len(series.values) > 1 else ""
            whole[at, series.metric, kind] += value
            if series.metric == "mail_user_events":
                keys.append(series.values[0])
        wholes.append({key: value for key, value in whole.items() if value})
    assert wholes[0] == wholes[1]
    assert OTHER in keys


def test_what_labels_hold_is_escaped() -> None:
    event = MailEvent(
        event_type="sent", direction="outbound", user='a"\\\nb', timestamp="2026-01-01T12:00:00Z"
    )
    tally = Tally(planned(NOW, NOW + 8 * HOUR, STEP, [HOUR], 5, [FAMILY["user"]]))
    tally.add(event)
    lines = list(itertools.chain(tally.lines()))
    assert any(r'user="a\"\\\nb"' in line for line in lines)
