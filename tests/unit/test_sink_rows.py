"""Records become rows, or say why not; whatever they hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.postgres.rows import TOPICS, rows_of
from consumers.postgres.tables import EVENTS, HEARTBEATS, METRICS
from pipeline.core.errors import Reason, RecordError
from pipeline.core.observation import series
from pipeline.core.pane import DAY_MS
from tests.kit.event_log import encode
from tests.kit.sink import NOW_MS, event, item, observed

FEEDS = (b"observation", b"heartbeat", b"other", None)


@given(
    st.sampled_from(TOPICS),
    st.sampled_from(FEEDS),
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["event_id", "timestamp", "start", "key", "values", "node", "at", "family"]
                    ),
                    inner,
                    max_size=5,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_any_bytes_are_rows_or_a_record_error(topic: str, feed: bytes | None, value: bytes) -> None:
    headers = () if feed is None else (("feed", feed),)
    try:
        rows = rows_of(topic, item(0, value, headers=headers))
    except RecordError as exc:
        assert exc.reason in Reason  # noqa: PT017  either outcome is right
        return
    for row in rows:
        assert len(row.values) == len(row.table.columns)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True), st.text(max_size=10), max_size=4
    )
)
def test_labels_come_back_as_they_were(labels: dict[str, str]) -> None:
    name = series("mail_x", labels)
    (row,) = rows_of("raw.node", observed(0, "redis", {name: 1}))
    assert row.table is METRICS["redis"]
    metric, found = row.values[2:4]
    if "\x00" not in name and "\\u0000" not in name:
        assert series(metric, json.loads(found)) == name


@pytest.mark.parametrize("name", ['x{a="1"', "x{}", "x{a=1}", 'x{a="\\q"}'])
def test_a_series_with_labels_of_another_form_keeps_its_name(name: str) -> None:
    try:
        (row,) = rows_of("raw.node", observed(0, "redis", {name: 1}))
    except RecordError:
        return
    assert row.values[2:4] == (name.removesuffix("{}"), "{}")


def test_a_text_may_show_the_escape_of_nul_but_not_hold_it() -> None:
    (row,) = rows_of("events", item(0, encode(event(0, user="a\\u0000"))))
    assert "a\\u0000" in row.values
    with pytest.raises(RecordError, match="U"):
        rows_of("events", item(0, encode(event(0, user="a\0"))))


def test_a_heartbeat_without_a_time_has_that_of_its_record() -> None:
    beat = {
        "node": "n", "role": "r", "version": "1", "boot_id": "b", "last_seq": 0, "buffered": 0,
        "dropped_total": 0,
    }  # fmt: skip
    for received in ((), (("received", b"soon"),), (("received", b"9" * 30),)):
        headers = (("feed", b"heartbeat"), *received)
        (row,) = rows_of("raw.node", item(0, json.dumps(beat).encode(), headers=headers))
        assert row.table is HEARTBEATS
        assert row.time_ms == NOW_MS


def test_events_have_a_partition_a_day() -> None:
    (row,) = rows_of("events", item(0, encode(event(0))))
    assert (row.table, row.time_ms, row.table.length_ms) == (EVENTS, NOW_MS, DAY_MS)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("feed", FEEDS[:2])
def test_what_is_nested_beyond_measure_is_malformed(topic: str, feed: bytes) -> None:
    for value in (b"[" * 1_000_000, b'{"x":' * 100_000, b'{"key":' + b"[" * 100_000):
        with pytest.raises(RecordError):
            rows_of(topic, item(0, value, headers=(("feed", feed),)))


def test_a_heartbeat_of_a_far_future_has_a_time_all_the_same() -> None:
    beat = {
        "node": "n", "role": "r", "version": "1", "boot_id": "b", "last_seq": 0, "buffered": 0,
        "dropped_total": 0,
    }  # fmt: skip
    headers = (("feed", b"heartbeat"), ("received", b"9" * 15))
    (row,) = rows_of("raw.node", item(0, json.dumps(beat).encode(), headers=headers))
    assert row.values[0] == "9999-12-31T23:59:59.999Z"
