"""The tables that everything reads: topics, families, tally; and the arithmetic of panes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.batch import header
from pipeline.core.engine_stats import Distribution
from pipeline.core.errors import ConfigError, Reason, RecordError, TransientError
from pipeline.core.event import EVENT_TYPE_NUMBER, EVENT_TYPES, MailEvent, id_hash, partition_of
from pipeline.core.families import FAMILIES, FAMILY, MAIL_TYPES
from pipeline.core.membership import counts_volume
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS, pane_length, pane_of, panes_of_window
from pipeline.core.tally import BOUNDS_SECONDS, COUNTERS, HISTOGRAMS, OTHER, Tally
from pipeline.core.topics import RAW_TOPICS, TOPIC, TOPICS, TopicNames

NOW = st.integers(0, 4_102_444_800_000)
WINDOWS = st.one_of(
    st.integers(1, 30).map(lambda n: n * 10_000),
    st.integers(6, 60).map(lambda n: n * MINUTE_MS),
    st.integers(13, 288).map(lambda n: n * 5 * MINUTE_MS),
)


@given(NOW, WINDOWS)
def test_a_window_is_the_panes_that_start_after_its_beginning_up_to_the_open_one(
    now_ms: int, window_ms: int
) -> None:
    length = pane_length(window_ms)
    newest = now_ms - now_ms % length
    expected = [
        start
        for start in range(newest - window_ms - length, newest + 2 * length, length)
        if newest - window_ms < start <= newest
    ]
    panes = panes_of_window(now_ms, window_ms)
    assert list(panes) == expected
    assert len(panes) * length == window_ms
    assert pane_of(now_ms, length) in panes


@pytest.mark.parametrize("window_ms", [0, -10_000, 5_000, 301_000, HOUR_MS + MINUTE_MS, 2 * DAY_MS])
def test_a_window_that_is_not_made_of_its_panes_is_refused(window_ms: int) -> None:
    with pytest.raises(ValueError, match="window"):
        pane_length(window_ms)


def test_topics_follow_the_prefix_and_group_ids_leave_out_its_dot() -> None:
    names = TopicNames("replay.")
    assert names.of("raw.zonemta") == "replay.raw.zonemta"
    assert names.app_id == "replay-pipeline"
    assert names.transactional_id("replay.raw.haraka", 3) == "replay-pipeline-replay.raw.haraka-3"
    with pytest.raises(KeyError):
        names.of("nonesuch")


def test_every_topic_is_declared_once_and_raw_topics_share_one_retention_key() -> None:
    assert len(TOPIC) == len(TOPICS)
    assert {TOPIC[name].retention_key for name in RAW_TOPICS} == {"raw"}
    assert TOPIC["events"].retention_key == "events"
    assert "raw.node" not in RAW_TOPICS


def test_families_and_their_metrics_are_declared_once_and_consistent() -> None:
    assert len(FAMILY) == len(FAMILIES)
    fields = set(MailEvent.__struct_fields__)
    metrics = [export.metric for family in FAMILIES for export in family.exports]
    metrics += [distinct.metric for family in FAMILIES for distinct in family.distincts]
    assert len(metrics) == len(set(metrics))
    for family in FAMILIES:
        assert set(family.fields) <= fields
        assert len(family.labels) == len(family.fields)
        assert {*family.defaults, *family.bounded} <= set(family.fields)
        assert set(family.event_types) <= set(EVENT_TYPES)
        assert {export.sum for export in family.exports} <= set(family.sums)
        names = [distinct.name for distinct in family.distincts]
        assert len(names) == len(set(names))
        assert {distinct.field for distinct in family.distincts} <= fields
        assert {one.instead for one in family.distincts if one.instead} <= fields


def test_event_type_numbers_are_places_in_the_tuple_and_mail_types_leave_out_logins() -> None:
    assert [EVENT_TYPES[EVENT_TYPE_NUMBER[name]] for name in EVENT_TYPES] == list(EVENT_TYPES)
    assert set(EVENT_TYPES) - set(MAIL_TYPES) == {"auth_succeeded", "auth_failed", "probe"}


def test_volume_is_counted_at_sent_or_at_outcomes_where_a_source_has_no_sent() -> None:
    assert counts_volume("zonemta", "sent")
    assert not counts_volume("zonemta", "delivered")
    assert counts_volume("cpanel", "delivered")
    assert counts_volume("cpanel", "bounced")
    assert not counts_volume("cpanel", "deferred")


@given(st.binary(), st.integers(1, 64))
def test_a_key_has_one_partition(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == partition_of(bytes(key), partitions)


def test_the_same_id_of_two_sources_is_two_ids() -> None:
    assert id_hash("zonemta", "1") != id_hash("haraka", "1")


LABELS = st.tuples(
    st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]),
    st.sampled_from(["google", "other"]),
    st.sampled_from(["delivered", "bounced"]),
)


@given(st.lists(st.tuples(LABELS, st.integers(1, 9))))
def test_a_capped_counter_keeps_its_whole(
    added: list[tuple[tuple[str, str, str], int]],
) -> None:
    tally = Tally(max_values=2)
    for labels, count in added:
        tally.add("mail_ip_outcomes_total", [(labels, count)])
    counter = tally.counters["mail_ip_outcomes_total"]
    assert sum(counter.values()) == sum(count for _, count in added)
    assert len({ip for ip, *_ in counter} - {OTHER}) <= 2
    for place in (1, 2):
        whole = Counter[str]()
        for labels, count in added:
            whole[labels[place]] += count
        shown = Counter[str]()
        for key, count in counter.items():
            shown[key[place]] += count
        assert shown == whole


def test_histograms_add_up_by_bucket() -> None:
    tally = Tally()
    one = np.zeros(len(BOUNDS_SECONDS) + 1, np.int64)
    one[2] = 3
    tally.observe("mail_provider_delivery_seconds", ("google",), one, 1.5)
    tally.observe("mail_provider_delivery_seconds", ("google",), one, 0.5)
    buckets, total = tally.histograms["mail_provider_delivery_seconds"]["google",]
    assert buckets[2] == 6
    assert total == 2.0
    one[2] = 100
    assert buckets[2] == 6


def test_a_route_of_one_probe_too_many_is_summed_with_others() -> None:
    tally = Tally(max_values=2)
    buckets = np.ones(len(BOUNDS_SECONDS) + 1, np.int64)
    for number in range(5):
        tally.observe("mail_route_roundtrip_seconds", ("route", f"probe{number}"), buckets, 1.0)
    held = tally.histograms["mail_route_roundtrip_seconds"]
    assert held.keys() == {("route", "probe0"), ("route", "probe1"), (OTHER, OTHER)}
    assert sum(total for _, total in held.values()) == 5.0


def test_declared_counters_are_counters_by_name() -> None:
    assert all(family.name.endswith("_total") for family in COUNTERS)
    assert all(family.name.endswith("_seconds") for family in HISTOGRAMS)


@given(st.lists(st.floats(0, 100)))
def test_a_distribution_counts_each_value_at_its_inclusive_upper_edge(values: list[float]) -> None:
    held = Distribution((1.0, 10.0))
    for value in values:
        held.observe(value)
    assert held.counts == [
        sum(value <= 1 for value in values),
        sum(1 < value <= 10 for value in values),
        sum(value > 10 for value in values),
    ]
    assert held.total == pytest.approx(sum(values))


def test_errors_carry_what_a_caller_needs() -> None:
    assert str(RecordError(Reason.MALFORMED, "not an object")) == "malformed: not an object"
    assert ConfigError(["a: 1", "b: 2"]).mistakes == ("a: 1", "b: 2")
    assert TransientError("away", 2.5).retry_after_s == 2.5


def test_the_first_header_of_a_name_counts() -> None:
    assert header([("id", b"1"), ("id", b"2")], "id") == b"1"
    assert header([], "id") is None
