"""Laws of the senders' numbers, against a recount that keeps every number."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.errors import Reason, RecordError
from pipeline.core.observation import MAX_NUMBER, Heartbeat
from producers.sender_numbers import (
    MAX_BOOTS,
    SILENT_MS,
    Intervals,
    Numbers,
    SenderNumbers,
    Sums,
    numbers_of,
    require_as_many,
)

SPANS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 9)).map(lambda at: (at[0], at[0] + at[1])),
    max_size=40,
)


def told(boot_id: str, last_seq: int, buffered: int = 0, dropped: int = 0) -> Heartbeat:
    return Heartbeat(
        node="mta1",
        role="zonemta",
        version="1",
        boot_id=boot_id,
        last_seq=last_seq,
        buffered=buffered,
        dropped_total=dropped,
    )


def shown(numbers: SenderNumbers, now_ms: int = 0) -> Sums:
    ((_, sums),) = numbers.sums(now_ms)
    return sums


@given(SPANS)
def test_a_number_counts_once_however_often_and_in_whatever_order_it_comes(
    spans: list[tuple[int, int]],
) -> None:
    found, expected = Intervals(), set()
    for first, last in spans:
        found.add(first, last)
        expected |= set(range(first, last + 1))
        assert found.count == len(expected)
    runs = sum(number - 1 not in expected for number in expected)
    assert len(found) == runs


@given(SPANS, st.integers(1, 5))
def test_few_intervals_never_count_more_than_came(spans: list[tuple[int, int]], most: int) -> None:
    found, expected = Intervals(most), set()
    for first, last in spans:
        found.add(first, last)
        expected |= set(range(first, last + 1))
        assert len(found) <= most
        assert 0 < found.count <= len(expected)


@given(
    st.lists(st.sampled_from(["arrives", "is lost", "is dropped", "waits"]), min_size=1), st.data()
)
def test_what_is_lost_is_missing_and_nothing_else_is(fates: list[str], data: st.DataObject) -> None:
    numbers = SenderNumbers()
    fates = ["arrives", *fates]
    came = [number for number, fate in enumerate(fates, 1) if fate == "arrives"]
    repeats = data.draw(st.lists(st.sampled_from(came)))
    order = data.draw(st.permutations(came + repeats))
    for number in order:
        numbers.acknowledged("zonemta", "mta1", Numbers("boot", number, number))
    numbers.heartbeat(
        "zonemta",
        "mta1",
        told("boot", len(fates), fates.count("waits"), fates.count("is dropped")),
        1000,
    )
    assert shown(numbers, 1000) == Sums(
        fates.count("waits"), fates.count("is dropped"), fates.count("is lost"), 1000
    )


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(1, MAX_NUMBER), st.integers(0, 50)),
            st.tuples(st.integers(0, MAX_NUMBER), st.integers(0, MAX_NUMBER), st.integers(0, 99)),
        )
    ),
    st.sampled_from(["one", "two"]),
)
def test_hostile_numbers_neither_raise_nor_make_a_counter_fall(
    posts: list[tuple[int, ...]], boot: str
) -> None:
    numbers = SenderNumbers()
    before = Sums(0, 0, 0, 0)
    for turn, post in enumerate(posts, 1):
        if len(post) == 2:
            first, more = post
            numbers.acknowledged("zonemta", "mta1", Numbers(boot, first, first + more))
        else:
            numbers.heartbeat("zonemta", "mta1", told(boot, *post), turn)
            after = shown(numbers)
            assert after.missing >= before.missing >= 0
            assert after.dropped >= before.dropped >= 0
            before = after


def test_a_service_that_starts_later_than_the_sender_misses_nothing_that_was_before() -> None:
    numbers = SenderNumbers()
    numbers.acknowledged("zonemta", "mta1", Numbers("boot", 5001, 5100))
    numbers.heartbeat("zonemta", "mta1", told("boot", 5100), 1)
    assert shown(numbers, 1).missing == 0
    numbers.acknowledged("zonemta", "mta1", Numbers("boot", 5111, 5200))
    numbers.heartbeat("zonemta", "mta1", told("boot", 5200), 2)
    assert shown(numbers, 2).missing == 10


def test_a_heartbeat_that_was_overtaken_changes_nothing() -> None:
    numbers = SenderNumbers()
    numbers.acknowledged("zonemta", "mta1", Numbers("boot", 1, 20))
    numbers.heartbeat("zonemta", "mta1", told("boot", 20), 2)
    numbers.heartbeat("zonemta", "mta1", told("boot", 10, buffered=9, dropped=9), 3)
    assert shown(numbers, 3) == Sums(0, 0, 0, 3)


def test_the_boots_of_one_sender_add_up_and_a_silent_one_holds_nothing_any_more() -> None:
    numbers = SenderNumbers()
    for boot in range(3 * MAX_BOOTS):
        numbers.acknowledged("zonemta", "mta1", Numbers(f"b{boot}", 1, 1))
        numbers.heartbeat("zonemta", "mta1", told(f"b{boot}", 4, buffered=1, dropped=1), 10)
    assert shown(numbers, 10) == Sums(MAX_BOOTS, 3 * MAX_BOOTS, 3 * MAX_BOOTS, 10)
    assert shown(numbers, 11 + SILENT_MS).buffered == 0


def test_senders_are_told_apart_by_source_and_origin() -> None:
    numbers = SenderNumbers()
    numbers.heartbeat("zonemta", "mta1", told("boot", 3, buffered=3), 1)
    numbers.heartbeat("haraka", "mta1", told("boot", 2, buffered=2), 1)
    numbers.acknowledged("haraka", "mx9", Numbers("boot", 1, 1))
    assert {key: sums.buffered for key, sums in numbers.sums(1)} == {
        ("zonemta", "mta1"): 3,
        ("haraka", "mta1"): 2,
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Boot-Id": "b"},
        {"X-Numbers": "1-2"},
        {"X-Boot-Id": "", "X-Numbers": "1-2"},
        {"X-Boot-Id": "b" * 65, "X-Numbers": "1-2"},
        {"X-Boot-Id": "a b", "X-Numbers": "1-2"},
        *(
            {"X-Boot-Id": "b", "X-Numbers": text}
            for text in ("", "1", "0-1", "2-1", "-1-2", "1-2-3", "1,2", "a-b", "1-²", "1 - 2")
        ),
        {"X-Boot-Id": "b", "X-Numbers": f"1-{MAX_NUMBER + 1}"},
    ],
)
def test_headers_of_another_form_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(RecordError) as refused:
        numbers_of(headers)
    assert refused.value.reason in {Reason.INVALID_FIELD, Reason.MISSING_FIELD}


def test_headers_are_read_and_may_be_absent() -> None:
    assert numbers_of({}) is None
    assert numbers_of({"X-Boot-Id": "b", "X-Numbers": "7-9"}) == Numbers("b", 7, 9)
    require_as_many(None, 5)
    require_as_many(Numbers("b", 7, 9), 3)
    with pytest.raises(RecordError, match="one number per event"):
        require_as_many(Numbers("b", 7, 9), 2)


@given(st.dictionaries(st.sampled_from(["X-Boot-Id", "X-Numbers"]), st.text(max_size=70)))
@example({"X-Boot-Id": "b", "X-Numbers": "9" * 16 + "-" + "9" * 16})
def test_any_headers_are_read_or_refused(headers: dict[str, str]) -> None:
    try:
        found = numbers_of(headers)
    except RecordError:
        return
    assert found is None or 1 <= found.first <= found.last <= MAX_NUMBER
