"""What one poll asks, writes and shows, rule by rule; server and log are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from producers.sources.cpanel.checkpoint import Checkpoint
from producers.sources.cpanel.client import Trouble, WhmError
from producers.sources.cpanel.polling import (
    AHEAD_S,
    CAP,
    LIFE_S,
    OVERLAP_S,
    PAGING_CAP,
    SILENT_CAP,
)
from producers.sources.cpanel.stats import midnight_s
from tests.kit.cpanel import Bench
from tests.kit.whm import SEARCH, STATS, Whm, json_reply, refused, row_like, sample

T = TypeVar("T")
NOW = 1_700_000_000
MINUTE = 60


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def row(number: int, at: int, kind: str = "success", **fields: Any) -> dict[str, Any]:
    times = {"sendunixtime": at, "actionunixtime": at}
    return row_like(kind, msgid=f"1v-{number}", **{**times, **fields})


def searches(whm: Whm) -> list[dict[str, str]]:
    """Return the searches without the probe, and forget them."""
    asked = [parameters for function, parameters in whm.calls if function == SEARCH]
    whm.calls.clear()
    return [one for one in asked if one["api.filter.b.arg0"] != "2"]


def bounds(asked: dict[str, str]) -> tuple[int, int]:
    return int(asked["api.filter.a.arg0"]), int(asked["api.filter.b.arg0"])


def poll(bench: Bench, now: int = NOW) -> bool:
    bench.clock.set(now * 1000)
    return run(bench.poll())


def ids(bench: Bench) -> list[str]:
    return sorted(record.row["msgid"] for record in bench.log.records)


def test_a_search_names_all_outcomes_and_compares_numbers_as_numbers() -> None:
    bench = Bench(Whm(), history=60 * MINUTE * 1000)
    poll(bench)
    asked = searches(bench.whm)
    assert asked[0] == {
        "success": "1",
        "defer": "1",
        "failure": "1",
        "inprogress": "1",
        "deliverytype": "all",
        "max_results_by_type": str(CAP),
        "api.filter.enable": "1",
        "api.filter.a.field": "actionunixtime",
        "api.filter.a.type": "gt_equal",
        "api.filter.a.arg0": str(NOW - 3600 - OVERLAP_S),
        "api.filter.b.field": "actionunixtime",
        "api.filter.b.type": "lt",
        "api.filter.b.arg0": str(NOW - OVERLAP_S),
        "api.sort.enable": "1",
        "api.sort.a.field": "actionunixtime",
        "api.sort.a.method": "numeric",
    }
    assert bounds(asked[-1]) == (NOW - OVERLAP_S, NOW + AHEAD_S)


def test_the_next_poll_begins_at_the_newest_row_less_the_overlap() -> None:
    bench = Bench(Whm())
    bench.whm.add(row(1, NOW - 100), row(2, NOW - 2000))
    poll(bench)
    searches(bench.whm)
    poll(bench, NOW + MINUTE)
    assert bounds(searches(bench.whm)[0])[0] == NOW - 100 - OVERLAP_S
    assert ids(bench) == ["1v-1", "1v-2"]


def test_a_quiet_poll_writes_nothing_not_even_a_checkpoint() -> None:
    bench = Bench(Whm())
    bench.whm.add(row(1, NOW - 100))
    poll(bench)
    commits = bench.log.commits
    for minute in range(1, 5):
        assert poll(bench, NOW + minute * MINUTE)
    assert bench.log.commits == commits
    assert bench.value("mailstream_cpanel_duplicates_total", origin="web1") == 4


def test_a_server_whose_log_stood_still_loses_nothing() -> None:
    bench = Bench(Whm())
    bench.whm.add(row(1, NOW - 5000))
    poll(bench)
    poll(bench, NOW + 3 * 3600)
    bench.whm.add(*(row(number, NOW - 5000 + 60 * number) for number in range(2, 200)))
    poll(bench, NOW + 3 * 3600 + MINUTE)
    assert len(ids(bench)) == 199


def test_a_row_from_the_future_does_not_move_the_poller_there() -> None:
    bench = Bench(Whm())
    bench.whm.add(row(1, NOW + AHEAD_S - 1))
    poll(bench)
    searches(bench.whm)
    bench.whm.add(row(2, NOW + 5))
    poll(bench, NOW + MINUTE)
    assert ids(bench) == ["1v-1", "1v-2"]


@pytest.mark.parametrize("tells", [True, False])
def test_a_full_type_is_asked_again_in_halves(*, tells: bool) -> None:
    bench = Bench(Whm())
    bench.whm.tells_overflow = tells
    bench.whm.add(*(row(number, NOW - 500 + number) for number in range(SILENT_CAP + 50)))
    poll(bench)
    assert len(ids(bench)) == SILENT_CAP + 50
    assert bench.value("mailstream_cpanel_splits_total", origin="web1")
    overflows = "mailstream_cpanel_overflows_total"
    assert bench.value(overflows, origin="web1", outcome="paged") == 0


def test_a_second_that_is_too_full_is_read_page_by_page() -> None:
    bench = Bench(Whm())
    bench.whm.silent_cap = False
    bench.whm.add(*(row(number, NOW - 10) for number in range(CAP + 10)))
    poll(bench)
    assert len(ids(bench)) == CAP + 10
    pages = [one for one in searches(bench.whm) if "api.chunk.enable" in one]
    assert [one["api.chunk.start"] for one in pages] == ["1", "251", "501", "751", "1001"]
    assert {one["max_results_by_type"] for one in pages} == {str(PAGING_CAP)}
    overflows = "mailstream_cpanel_overflows_total"
    assert bench.value(overflows, origin="web1", outcome="paged") == 1
    assert bench.value(overflows, origin="web1", outcome="incomplete") == 0


def test_a_second_that_stays_cut_short_is_counted_and_left() -> None:
    bench = Bench(Whm())
    bench.whm.add(*(row(number, NOW - 10) for number in range(SILENT_CAP + 10)))
    assert poll(bench)
    assert len(ids(bench)) == SILENT_CAP
    overflows = "mailstream_cpanel_overflows_total"
    assert bench.value(overflows, origin="web1", outcome="incomplete") == 1
    poll(bench, NOW + MINUTE)
    assert bench.value(overflows, origin="web1", outcome="incomplete") == 1


def test_windows_grow_again_when_there_is_less_to_tell() -> None:
    bench = Bench(Whm(), history=30 * 86_400_000)
    poll(bench)
    lengths = [end - start for start, end in map(bounds, searches(bench.whm))]
    assert lengths[:5] == [3600, 7200, 14400, 28800, 57600]
    assert sum(lengths) == 30 * 86_400 + OVERLAP_S + AHEAD_S
    for minute in range(1, 4):
        poll(bench, NOW + minute * MINUTE)
        assert len(searches(bench.whm)) <= 2, "quiet weeks are asked about at once"


def test_a_window_that_takes_too_long_is_halved_next_time() -> None:
    bench = Bench(Whm())

    async def slow(function: str, parameters: object) -> dict[str, Any]:
        raise WhmError(Trouble.TIMEOUT)

    poll(bench)
    searches(bench.whm)
    server = bench.poller._client
    bench.poller._client = type("Slow", (), {"call": staticmethod(slow)})()
    assert not poll(bench)
    bench.poller._client = server
    assert poll(bench, NOW + 7200)
    lengths = [end - start for start, end in map(bounds, searches(bench.whm))]
    assert len(lengths) > 1
    assert max(lengths) <= lengths[0] + 1


def test_a_server_that_ignores_the_filter_is_swept_by_send_time() -> None:
    bench = Bench(Whm(), history=3_600_000)
    bench.whm.ignored = frozenset({"actionunixtime"})
    old = NOW - 3 * 86_400
    bench.whm.add(row(1, NOW - 10), row(2, NOW - 100, sendunixtime=old))
    poll(bench)
    asked = searches(bench.whm)
    assert {one["api.filter.a.field"] for one in asked} == {"sendunixtime"}
    assert bounds(asked[0])[0] == NOW - 3600 - OVERLAP_S - LIFE_S
    assert ids(bench) == ["1v-1", "1v-2"]
    assert bench.value("mailstream_cpanel_by_send_time", origin="web1") == 1
    bench.whm.add(row(3, NOW + 10), row(4, NOW + 30, sendunixtime=old))
    poll(bench, NOW + MINUTE)
    assert ids(bench) == ["1v-1", "1v-2", "1v-3"]
    assert bench.log.checkpoint == Checkpoint(newest_s=NOW + 10, swept_s=NOW - 3600)
    poll(bench, NOW + 3601)
    assert ids(bench) == ["1v-1", "1v-2", "1v-3", "1v-4"]


def test_a_server_that_begins_to_ignore_the_filter_is_swept_at_once() -> None:
    bench = Bench(Whm(), history=3_600_000)
    bench.whm.add(row(1, NOW - 3000))
    poll(bench)
    bench.whm.ignored = frozenset({"actionunixtime"})
    bench.whm.add(row(2, NOW, sendunixtime=NOW - 86_400))
    assert poll(bench, NOW + MINUTE)
    assert ids(bench) == ["1v-1", "1v-2"]


def test_a_server_that_ignores_every_filter_is_told_apart_and_not_hammered() -> None:
    bench = Bench(Whm())
    bench.whm.ignored = frozenset({"actionunixtime", "sendunixtime"})
    bench.whm.add(row(1, NOW - 10))
    bench.clock.set(NOW * 1000)
    with pytest.raises(WhmError) as caught:
        run(bench.poller.poll())
    assert caught.value.trouble is Trouble.FILTER_IGNORED
    assert bench.whm.count() <= 3


def test_rows_that_are_no_objects_or_absurdly_large_are_counted() -> None:
    bench = Bench(Whm())
    huge = row(1, NOW - 10, message="x" * (2 << 20))
    bench.whm.add(huge, row(2, NOW - 10))
    poll(bench)
    assert ids(bench) == ["1v-2"]
    discarded = "mailstream_component_discarded_events_total"
    assert bench.value(discarded, component="cpanel", reason="too_large") == 1


def test_the_figures_of_today_are_shown_and_dropped_after_a_failed_poll() -> None:
    bench = Bench(Whm(), timezone="Europe/Berlin")
    bench.whm.mood = lambda function: (
        None if function == SEARCH else json_reply(sample("emailtrack_user_stats"))
    )
    poll(bench)
    labels = {"server": "web1", "domain": "example.org", "user": "orgsite"}
    owned = {**labels, "primary_domain": "example.org", "owner": "reseller1"}
    shown = {
        kind: bench.value("email_user_stats", **owned, stat_type=kind)
        for kind in ("send_count", "success_count", "fail_count", "defer_count")
    }
    assert shown == {"send_count": 210, "success_count": 150, "fail_count": 50, "defer_count": 10}
    assert bench.value("email_user_stats", **owned, stat_type="defer_fail_count") == 60
    assert bench.value("email_user_stats", **owned, stat_type="total_size") == 1_048_576
    assert bench.value("email_flag_stats", **labels, flag="reached_maxemails") == 1
    assert bench.value("email_flag_stats", **labels, flag="reached_maxdeferfail") == 0
    start = "email_user_stats_window_start_timestamp_seconds"
    assert bench.value(start, server="web1") == midnight_s(NOW, "Europe/Berlin")
    bench.whm.mood = lambda function: refused(function, "The database is not available.")
    assert not poll(bench, NOW + MINUTE)
    assert bench.value("email_user_stats", **owned, stat_type="send_count") is None
    assert bench.value(start, server="web1") is None


def test_rows_are_polled_on_when_the_figures_cannot_be_had() -> None:
    bench = Bench(Whm())
    bench.whm.mood = lambda function: refused(function, "no right") if function == STATS else None
    bench.whm.add(row(1, NOW - 10))
    assert poll(bench)
    assert ids(bench) == ["1v-1"]
    assert bench.value("mailstream_up", source="cpanel", origin="web1") == 0
    bench.whm.mood = lambda _function: None
    assert poll(bench, NOW + MINUTE)
    assert bench.value("mailstream_up", source="cpanel", origin="web1") == 1


def test_email_logs_has_the_exporter_s_labels_and_no_recipient() -> None:
    bench = Bench(Whm())
    bench.whm.add(row(1, NOW - 10, "failure"), row(2, NOW - 7200))
    poll(bench)
    (family,) = [one for one in bench.registry.collect() if one.name == "email_logs"]
    (shown,) = family.samples
    assert len(shown.labels) == 23
    assert (shown.labels["msg_id"], shown.labels["sender_ip"]) == ("1v-1", "198.51.100.20")
    assert "nobody" not in str(shown)


def test_days_begin_at_midnight_of_the_server_also_when_clocks_change() -> None:
    assert midnight_s(NOW, "UTC") % 86_400 == 0
    changed = 1_774_772_100  # 2026-03-29 10:15 in Berlin, nine hours and a quarter after midnight
    assert changed - midnight_s(changed, "Europe/Berlin") == 9 * 3600 + 900
