"""Laws of phase 1: how the log was cut into batches, or how often it was read, must not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.batch import StepResult
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAMILIES, FAMILY, Mail, Sum
from pipeline.core.membership import counts_volume
from pipeline.core.posted import PostedEvent
from tests.kit.enrich import (
    RECEIVED,
    ZONEMTA,
    Phase1,
    Raw,
    Row,
    events,
    frames,
    headers,
    raw,
    rows,
    values,
)

HORIZON = 240_000
JUMPS = [0, 0, 0, -500, 1_000, 9_000, HORIZON + 60_000]
"""Within a bucket, backwards, over a bucket's edge, over the horizon."""

USERS = st.sampled_from(["alice", "bob@X.org", "carol[phone]", "none", ""])
DOMAINS = st.sampled_from(["gmail.com", "GMAIL.com.", "x.org", "none"])
IPS = st.sampled_from(["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "0.0.0.0", ""])
POSTED = st.fixed_dictionaries(
    {
        "timestamp": st.integers(-90_000, 400).map(lambda s: RECEIVED / 1000 + s),
        "event_type": st.sampled_from([*EVENT_TYPES, "opened"]),
        "message_id": st.just("m"),
    },
    optional={
        "direction": st.sampled_from(["outbound", "inbound", "local"]),
        "user": USERS,
        "from_address": st.sampled_from(["a@x.org", "<>", "SRS0=H=T=x.org=a@y.org", "a\n@x.org"]),
        "from_domain": DOMAINS,
        "to_domain": DOMAINS,
        "sending_ip": IPS,
        "auth_method": st.sampled_from(["PLAIN", "none", ""]),
        "client_ip": IPS,
        "mta_node": st.sampled_from(["mta1", "mta2"]),
        "zone": st.sampled_from(["z1", "bounces", "none"]),
        "response_message": st.sampled_from(["550 5.1.1 no", "450 greylisted", "250 ok"]),
        "recipients": st.integers(0, 3),
        "size_bytes": st.integers(0, 1 << 34),
        "delivery_time_ms": st.floats(0, 1e7),
    },
)


@st.composite
def logs(draw: st.DrawFn, jumps: Sequence[int] = JUMPS) -> list[Raw]:
    """Draw a partition's log: copies, bad records, times that go on by one of *jumps*."""
    drawn = st.tuples(POSTED, st.integers(0, 9), st.sampled_from(["zonemta", "haraka"]))
    received, records = RECEIVED, []
    for offset, (event, number, source) in enumerate(draw(st.lists(drawn, max_size=25))):
        received += draw(st.sampled_from(jumps))
        record = raw(event, offset, event_id=f"e{number}", source=source, received=received)
        if draw(st.integers(0, 9)) == 0:
            record = record._replace(headers=draw(st.sampled_from([(), headers(received="x")])))
        records.append(record)
    return records


def cut(records: Sequence[Raw], places: Iterable[int]) -> list[Sequence[Raw]]:
    edges = sorted({0, *(place for place in places if place < len(records)), len(records)})
    return [records[start:end] for start, end in pairwise(edges)]


def phase1() -> Phase1:
    return Phase1(horizon_ms=HORIZON)


def run(batches: Iterable[Sequence[Raw]]) -> tuple[Phase1, list[StepResult]]:
    made = phase1()
    return made, [made.commit(batch) for batch in batches]


def everything(results: Iterable[StepResult], topic: str) -> list[bytes]:
    return [value for result in results for value in values(result, topic)]


def summed(results: Iterable[StepResult]) -> dict[Row, dict[str, int]]:
    return rows(frame for result in results for frame in frames(result).values())


@settings(deadline=None)
@given(logs(), st.lists(st.integers(0, 25)))
def test_any_split_into_batches_gives_the_same_events_and_sums(
    records: list[Raw], places: list[int]
) -> None:
    whole, at_once = run([records])
    split, in_parts = run(cut(records, places))
    assert everything(at_once, "events") == everything(in_parts, "events")
    assert everything(at_once, "dead") == everything(in_parts, "dead")
    assert summed(at_once) == summed(in_parts)
    assert whole.tally.counters == split.tally.counters
    assert whole.stats.origins.keys() == split.stats.origins.keys()
    assert whole.stats.dedupe_ids == split.stats.dedupe_ids


@settings(deadline=None)
@given(logs())
def test_what_is_received_becomes_an_event_a_duplicate_or_a_dead_letter(
    records: list[Raw],
) -> None:
    made, results = run([records])
    duplicates = sum(made.tally.counters["mail_events_duplicate_total"].values())
    dead = everything(results, "dead")
    written = everything(results, "events")
    assert len(records) == len(written) + duplicates + len(dead)
    assert sum(made.tally.counters["mail_events_dead_total"].values()) == len(dead)
    assert sum(made.tally.counters["mail_events_total"].values()) == len(written)


@settings(deadline=None)
@given(logs())
def test_a_batch_is_pure_until_its_commit(records: list[Raw]) -> None:
    made = phase1()
    made.commit(records[: len(records) // 2])
    rest = records[len(records) // 2 :]
    assert made.batch(rest).outputs == made.batch(rest).outputs


@settings(deadline=None)
@given(logs())
def test_a_replay_gives_the_same_bytes(records: list[Raw]) -> None:
    _made, first = run(cut(records, [7, 15]))
    warm = phase1()
    warm.commit([raw({"x": 1}, 0), *records[:3]])
    warm.step.close(ZONEMTA)
    warm.step.open(ZONEMTA)
    second = [warm.commit(batch) for batch in cut(records, [7, 15])]
    assert [result.outputs for result in first] == [result.outputs for result in second]


@settings(deadline=None)
@given(logs(jumps=[0, 0, -500, 3_000]), st.lists(st.integers(0, 25)))
def test_redelivery_within_the_horizon_changes_nothing(
    records: list[Raw], places: list[int]
) -> None:
    made, _results = run([records])
    before = {name: dict(counter) for name, counter in made.tally.counters.items()}
    again = [made.commit(batch) for batch in cut(records, places)]
    assert everything(again, "events") == []
    assert everything(again, "deltas") == []
    for name, counter in made.tally.counters.items():
        if name not in {"mail_events_duplicate_total", "mail_events_dead_total"}:
            assert counter == before[name]


@settings(deadline=None)
@given(logs(), st.lists(st.integers(0, 25)))
def test_a_partition_warmed_at_any_point_goes_on_as_if_it_had_never_moved(
    records: list[Raw], places: list[int]
) -> None:
    stayed, results = run(cut(records, places))
    moved = phase1()
    moved_results = []
    for batch, result in zip(cut(records, places), results, strict=True):
        moved_results.append(moved.commit(batch))
        assert moved_results[-1].outputs == result.outputs
        runs = everything(moved_results, "seen")
        moved = phase1()
        for one in runs:
            moved.step.warm(ZONEMTA, one)
    assert moved.stats.dedupe_ids == stayed.stats.dedupe_ids


def recount(written: Sequence[dict[str, Any]], times: Sequence[int]) -> dict[Row, dict[str, int]]:
    """Count straight from the events, one at a time: slow, and obviously right."""
    counted: dict[Row, dict[str, int]] = {}
    for event, at in zip(written, times, strict=True):
        outbound = event.get("direction") == "outbound"
        customer = outbound and not event.get("is_dsn") and not event.get("is_probe")
        for family in FAMILIES:
            key: tuple[Any, ...] = tuple(
                event.get(name, family.defaults.get(name)) for name in family.fields
            )
            if (
                event.get("late")
                or (family.mail in {Mail.CUSTOMER, Mail.ACCEPTED} and not customer)
                or (
                    family.mail is Mail.ACCEPTED
                    and not counts_volume(event["source"], event["event_type"])
                )
                or event["event_type"] not in family.event_types
                or any(part is None for part in key)
            ):
                continue
            row = family.name, key, event["event_type"], at // 10_000 * 10_000
            sums = counted.setdefault(row, dict.fromkeys(map(str, family.sums), 0))
            sums["count"] += 1
            if counts_volume(event["source"], event["event_type"]):
                if Sum.RECIPIENTS in family.sums:
                    sums["recipients"] += event.get("recipients", 1)
                if Sum.BYTES in family.sums:
                    sums["bytes"] += event.get("size_bytes", 0)
            if family.last_event:
                sums["last"] = max(sums.get("last", 0), at)
    return counted


def event_ms(event: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(event["timestamp"]).timestamp() * 1000)


@settings(deadline=None)
@given(logs())
def test_the_frames_equal_a_recount_of_the_events(records: list[Raw]) -> None:
    _made, results = run([records])
    written = [event for result in results for event in events(result)]
    assert summed(results) == recount(written, [event_ms(event) for event in written])


@settings(deadline=None)
@given(logs())
def test_an_event_is_written_once_within_the_horizon(records: list[Raw]) -> None:
    _made, results = run([records])
    first: dict[tuple[str, str], int] = {}
    for result in results:
        for event in events(result):
            identity = event["source"], event["event_id"]
            at = event_ms({"timestamp": event["received"]})
            assert at - first.get(identity, -HORIZON) >= HORIZON
            first[identity] = at


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["id", "source", "feed", "origin", "received", "x"]),
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from([b"zonemta", b"haraka", b"1767268800000", b"e1"]),
        ),
    ),
    max_size=6,
)
HOSTILE = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.dictionaries(
        st.sampled_from(sorted({*PostedEvent.__struct_encode_fields__, "unknown"})),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=30),
            st.sampled_from(["_other", "_OTHER", "_unknown.", "\x1f", "<>", "bounces", "a@b@c"]),
            st.lists(st.integers(), max_size=2),
        ),
        max_size=8,
    ).map(lambda fields: raw({"timestamp": 1767268800, "message_id": "m", **fields}).value),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(HOSTILE, st.one_of(st.just(headers()), HEADERS)), max_size=6))
@example([(b'{"timestamp":1767268800,"event_type":"sent","message_id":"m"}', headers())])
def test_nothing_raises_and_nothing_vanishes(
    drawn: list[tuple[bytes | None, Sequence[tuple[str, bytes]]]],
) -> None:
    records = [Raw(offset, value, head) for offset, (value, head) in enumerate(drawn)]
    made, results = run([records])
    duplicates = sum(made.tally.counters["mail_events_duplicate_total"].values())
    written = [event for result in results for event in events(result)]
    assert len(records) == len(written) + duplicates + len(everything(results, "dead"))
    for row in summed(results):
        family = FAMILY[row[0]]
        values = zip(family.fields, row[1], strict=True)
        told = {value for name, value in values if value != family.defaults.get(name)}
        assert not {"_other", "_unknown", ""} & told


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=60), st.integers(1, 9))
def test_dedupe_equals_a_plain_dictionary(log: list[tuple[int, int]], size: int) -> None:
    width = HORIZON // 24
    made = phase1()
    newest: dict[int, int] = {}
    clock, expected = 0, Counter[str]()
    records = []
    for offset, (number, step) in enumerate(log):
        received = RECEIVED + offset * step * 1_000
        clock = max(clock, received)
        bucket = clock - clock % width
        if number in newest and newest[number] >= bucket - 24 * width:
            expected["duplicate"] += 1
        else:
            expected["event"] += 1
            newest[number] = bucket
        records.append(
            raw(
                {"timestamp": RECEIVED / 1000, "event_type": "sent", "message_id": "m"},
                offset,
                event_id=str(number),
                received=received,
            )
        )
    written = sum(
        made.commit(records[start : start + size]).events for start in range(0, len(records), size)
    )
    assert written == expected["event"]
