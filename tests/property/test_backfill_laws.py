"""Backfill says what the recount says, at every time, from the events that phase 1 made."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.backfill import OTHER, Tally, planned, sliding
from pipeline.core.event import MailEvent
from pipeline.core.families import FAMILIES, FAMILY
from tests.kit.enrich import HARAKA, ZONEMTA, Phase1, events, raw
from tests.kit.oracle import HOUR, MINUTE, Posted, Recount, Series
from tests.kit.traffic import CLASSES, Shape, Varied

NOW = 1_767_268_800_000
STEP = 5 * MINUTE
WINDOWS = {"5m": 5 * MINUTE, "1h": HOUR}
SAMPLE = re.compile(r'(\w+)\{window="(\w+)",(.*)\} (\d+) ([\d.]+)\n')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

DISTINCT = {one.metric for family in FAMILIES for one in family.distincts}
"""Counts of different values are not filled in."""


def made(seed: int, count: int) -> tuple[list[Posted], list[MailEvent]]:
    """Return events as posted, and as phase 1 writes them."""
    drawn = Varied(seed=seed, now_ms=NOW, shape=Shape(users=9, ips=3))
    phase1, posted, found = Phase1(ZONEMTA, HARAKA), [], []
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
            found += events(phase1.commit(records, tp))
    return posted, [msgspec.convert(one, MailEvent) for one in found]


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
    posted, found = made(seed, count)
    plan = planned(NOW - 3 * HOUR, NOW + 2 * HOUR, STEP, WINDOWS.values(), 1000)
    tally = Tally(plan)
    for event in found:
        tally.add(event)
    recount = Recount(posted, CLASSES)
    expected = {
        (at, window, series): value
        for at in range(plan.since_ms, plan.until_ms + 1, STEP)
        for (window, series), value in recount.at(at - 1, WINDOWS).items()
        if series.metric not in DISTINCT
    }
    assert expected or count < 20
    values = shown(tally)
    assert {key: value for key, value in values.items() if value} == expected
    for (at, window, series), value in values.items():
        if not value:  # one zero after the last value, then nothing
            assert (at - STEP, window, series) in expected


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
    values = dict(sliding(panes, window, step))
    for at in range(0, (62 + width) * step, step):
        total = sum(amount for pane, amount in panes.items() if at - window <= pane < at)
        assert values.get(at, 0) == total


def test_keys_beyond_the_most_are_summed_so_that_the_whole_stays() -> None:
    posted, found = made(3, 200)
    assert posted
    plans = [planned(NOW - 3 * HOUR, NOW + HOUR, STEP, [HOUR], most) for most in (1000, 2)]
    wholes, keys = [], []
    for plan in plans:
        tally = Tally(replace(plan, families=[FAMILY["user"], FAMILY["ip_provider"]]))
        for event in found:
            tally.add(event)
        whole: Counter[tuple[int, str, str]] = Counter()
        for (at, _, series), value in shown(tally).items():
            whole[at, series.metric, series.values[-1]] += value
            if series.metric == "mail_user_events":
                keys.append(series.values[0])
        wholes.append(
            {
                key: value
                for key, value in whole.items()
                if value and key[1] != "mail_user_recipients" and key[1] != "mail_user_bytes"
            }
        )
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
