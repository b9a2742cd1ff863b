"""Both phases together, without Kafka: what the board holds equals the recount of what was posted."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailstream.simulation.probes import ProbePlan, probes
from pipeline.core.batch import TopicPartition
from pipeline.core.engine_stats import EngineStats
from pipeline.core.event import partition_of
from pipeline.core.families import Export, Family
from pipeline.core.tally import Labels, Tally
from pipeline.core.topics import TopicNames
from pipeline.enrich.forms import forms
from pipeline.enrich.probes import ProbeAccounts
from pipeline.enrich.step import Enricher
from pipeline.fold.board import Board
from tests.kit.oracle import HOUR, MINUTE, WINDOWS, Posted, Recount, Series
from tests.kit.oracle_totals import buckets, counters, times
from tests.kit.raw_log import RawRecord, probe_record, raw_record
from tests.kit.scrape import differences
from tests.kit.traffic import CLASSES, Shape, Varied, with_repeats

NOW = 1_767_268_800_000
NAMES = TopicNames("mail.")
PARTITIONS = 3
PROBES = ("user1@dom1.example.org", "login2@dom2.example.org", "someone3@elsewhere.example")
Log = dict[TopicPartition, list[RawRecord]]


class Stored(NamedTuple):
    """A record as read."""

    offset: int
    value: bytes
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int | None = None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 800), largest=st.integers(1, 400))
@example(seed=0, count=5000, largest=700)
def test_any_split_of_any_traffic_gives_the_windows_of_the_recount(
    seed: int, count: int, largest: int
) -> None:
    rnd = random.Random(seed)
    posted, log = traffic(seed, count)
    board = Board(tuple(WINDOWS.values()))
    for partition in range(PARTITIONS):
        board.open(partition)
    tally = Tally(max_values=10_000)
    frames = [
        frame for tp, records in log.items() for frame in enriched(tp, records, rnd, largest, tally)
    ]
    rnd.shuffle(frames)
    for offset, (partition, frame) in enumerate(frames):
        board.fold(partition, [Stored(offset, frame)], NOW)
    for partition in range(PARTITIONS):
        board.complete(partition)
    recount = Recount(posted, CLASSES, PROBES)
    for now in (NOW, NOW + 10_000, NOW + 3 * MINUTE, NOW + HOUR):
        board.advance(now)
        assert differences(recount.at(now), shown(board)) == []
        if now == NOW:
            assert newest_success(board) == within(recount.newest_success(), NOW - HOUR)
    assert counted(tally) == counters(recount.facts)
    assert timed(tally) == {key: buckets(held) for key, held in times(recount.facts).items()}


def traffic(seed: int, count: int) -> tuple[list[Posted], Log]:
    """Return events of both sources as posted and as the raw topics hold them."""
    made = Varied(seed=seed, now_ms=NOW, ahead_ms=4 * MINUTE, shape=Shape(users=40, ips=5))
    posted: list[Posted] = []
    log: Log = defaultdict(list)
    for source, make in (("zonemta", made.zonemta), ("haraka", made.haraka)):
        events = [make() for _ in range(count)] + logins(seed, count // 5)
        for event in events:
            event.setdefault("event_id", f"{event['queue_id']}.{event['seq']}")
        for event in with_repeats(events, count // 10, seed):
            record = raw_record(event, source, NOW)
            partition = partition_of(record.key, PARTITIONS)
            log[TopicPartition(NAMES.of(f"raw.{source}"), partition)].append(record)
            posted.append(Posted(event, source, NOW))
    for one in rounds(seed, count // 20):
        record = probe_record(one.event, one.origin, NOW)
        partition = partition_of(record.key, PARTITIONS)
        log[TopicPartition(NAMES.of("raw.probe"), partition)].append(record)
        posted.append(one)
    return posted, log


def rounds(seed: int, minutes: int) -> list[Posted]:
    """Return outcomes of two probes, copies among them, some from before the windows and after now."""
    if not minutes:
        return []
    plan = ProbePlan(seed, NOW - (minutes - 10) * MINUTE, minutes * MINUTE)
    made = [Posted(one.record, "probe", NOW, origin=one.origin) for one in probes(plan)]
    return made + random.Random(seed).sample(made, len(made) // 10)


def logins(seed: int, count: int) -> list[dict[str, Any]]:
    """Return logins of few accounts, and of names that nobody has."""
    rnd = random.Random(seed)
    return [
        {
            "event_type": rnd.choice(("auth_succeeded", "auth_failed")),
            "timestamp": (NOW - rnd.randrange(50 * MINUTE)) / 1000,
            "queue_id": "none",
            "seq": str(number),
            **rnd.choice(
                (
                    {"user": f"user{rnd.randrange(9)}@dom.example"},
                    {"user": f"user{rnd.randrange(9)}@dom.example", "login": "a phone"},
                    {"login": f"{rnd.randrange(9):032x}"},
                    {},
                )
            ),
            **({"auth_scope": rnd.choice(("imap", "smtp"))} if rnd.random() < 0.8 else {}),
            **({"client_ip": f"192.0.2.{rnd.randrange(9)}"} if rnd.random() < 0.8 else {}),
        }
        for number in range(count)
    ]


def enriched(
    tp: TopicPartition,
    records: Sequence[RawRecord],
    rnd: random.Random,
    largest: int,
    tally: Tally,
) -> Iterator[tuple[int, bytes]]:
    """Yield the frames that phase 1 makes of a partition in batches of up to *largest*."""
    step = Enricher(
        NAMES,
        PARTITIONS,
        horizon_ms=6 * HOUR,
        max_ids=1_000_000,
        tally=tally,
        stats=EngineStats(session_timeout_ms=10_000),
        forms=forms(),
        probes=ProbeAccounts(PROBES),
    )
    step.open(tp)
    read = [
        Stored(offset, one.value, one.key, one.headers, one.at_ms)
        for offset, one in enumerate(records)
    ]
    start = 0
    while start < len(read):
        end = min(len(read), start + rnd.randint(1, largest))
        result = step.on_batch(tp, read[start:end], start, end, NOW)
        result.on_commit()
        for output in result.outputs:
            if output.topic == NAMES.of("deltas"):
                yield from ((output.partition, record.value) for record in output.records)
        start = end


def shown(board: Board) -> dict[tuple[str, Series], int]:
    """Return the board's windows under their metric names."""
    values: dict[tuple[str, Series], int] = defaultdict(int)
    for family in board.families:
        for export in family.exports:
            for window, length in WINDOWS.items():
                for series, value in totals(board, family, export, length):
                    values[window, series] += value
        for distinct in family.distincts:
            for window in ("5m", "1h"):
                for key, number in board.distinct(family, distinct.name, WINDOWS[window]).items():
                    values[window, Series(distinct.metric, key)] = number
    return {key: value for key, value in values.items() if value}


def counted(tally: Tally) -> dict[tuple[str, Labels], int]:
    """Return the counters that are told by events' fields."""
    names = ("mail_events_total", "mail_ip_outcomes_total", "mail_provider_outcomes_total")
    return {
        (name, labels): count
        for name in (*names, "mail_failures_total")
        for labels, count in tally.counters[name].items()
    }


def timed(tally: Tally) -> dict[tuple[str, Labels], list[int]]:
    """Return every histogram's buckets."""
    return {
        (name, labels): held.tolist()
        for name, histogram in tally.histograms.items()
        for labels, (held, _total) in histogram.items()
    }


def newest_success(board: Board) -> dict[tuple[str, str], int]:
    """Return the newest success by route and origin, of the last hour."""
    newest: dict[tuple[str, str], int] = {}
    for share in board.shares("route_success"):
        assert share.last is not None
        for number, last in zip(share.key.tolist(), share.last.tolist(), strict=True):
            if last:
                route, origin = share.names[number].split("\x1f")
                newest[route, origin] = last
    return within(newest, NOW - HOUR)


def within(newest: dict[tuple[str, str], int], since_ms: int) -> dict[tuple[str, str], int]:
    return {key: at for key, at in newest.items() if at >= since_ms}


def totals(
    board: Board, family: Family, export: Export, window_ms: int
) -> Iterator[tuple[Series, int]]:
    found = board.totals(family, window_ms)
    column = found.sums[export.sum].tolist()
    for key, kind, value in zip(found.keys, found.event_types, column, strict=True):
        yield Series(export.metric, (*key, kind) if export.by_event_type else key), value
