"""The window gauges over several scrapes: what empties shows one zero, what is hidden shows none."""

from __future__ import annotations

import pytest

from pipeline.core.families import FAMILY
from pipeline.export.windows import FamilyText
from pipeline.fold.board import Board
from tests.kit.frames import Row, frame
from tests.kit.worker import DELTAS, NOW, SESSION_MS, Worker

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
EVENTS = "mail_user_events"


def sent(user: str, events: int = 1, at_ms: int = NOW) -> Row:
    return Row((user,), "sent", at_ms, events, events, 10 * events)


def series(window: str, user: str, kind: str = "sent") -> str:
    return f'window="{window}",user="{user}",event_type="{kind}"'


def test_a_series_shows_zero_for_one_scrape_after_its_window_empties() -> None:
    worker = Worker()
    worker.fold(user=[sent("ann", 3)])
    hour = series("1h", "ann")
    assert worker.samples(EVENTS) == dict.fromkeys(
        (series("1m", "ann"), series("5m", "ann"), hour), 3
    )
    worker.pass_time(MINUTE)
    assert worker.samples(EVENTS) == {series("1m", "ann"): 0, series("5m", "ann"): 3, hour: 3}
    assert worker.samples(EVENTS) == {series("5m", "ann"): 3, hour: 3}
    worker.pass_time(HOUR)
    assert worker.samples(EVENTS) == {series("5m", "ann"): 0, hour: 0}
    assert worker.samples(EVENTS) == {}


def test_sums_that_are_not_by_event_type_show_their_zero_too() -> None:
    worker = Worker()
    worker.fold(user=[sent("ann", 3), Row(("ann",), "delivered", NOW)])
    assert worker.samples("mail_user_bytes")['window="1m",user="ann"'] == 30
    worker.pass_time(2 * HOUR)
    assert set(worker.samples("mail_user_bytes").values()) == {0}
    assert worker.samples("mail_user_bytes") == {}


def test_a_window_that_fills_again_shows_its_count_at_once() -> None:
    worker = Worker()
    worker.fold(user=[sent("ann")])
    worker.page()
    worker.pass_time(2 * HOUR)
    worker.page()
    worker.fold(user=[sent("ann", 2, worker.clock.now_ms())])
    assert set(worker.samples(EVENTS).values()) == {2}


def test_other_shows_zero_for_one_scrape_after_it_empties() -> None:
    worker = Worker(top_keys=1)
    worker.fold(user=[sent("ann", 5), sent("bob", 1), sent("eve", 1)])
    assert worker.samples(EVENTS)[series("1m", "_other")] == 2
    assert worker.samples("mailstream_keys_folded")['family="user"'] == 2
    worker.pass_time(2 * HOUR)
    assert worker.samples(EVENTS)[series("1h", "_other")] == 0
    assert worker.samples(EVENTS) == {}


def test_other_shows_the_newest_event_of_the_keys_in_it() -> None:
    worker = Worker(top_keys=1)
    ips = [("192.0.2.1", 5, 9), ("192.0.2.2", 1, 7), ("192.0.2.3", 1, 4)]
    worker.fold(ip=[Row((ip,), "sent", NOW - age * SECOND, n) for ip, n, age in ips])
    assert worker.samples("mail_ip_last_event_timestamp_seconds") == {
        'ip="192.0.2.1",event_type="sent"': NOW / 1000 - 9,
        'ip="_other",event_type="sent"': NOW / 1000 - 4,
    }


def test_a_key_that_loses_its_name_shows_no_zero_for_its_window_is_not_empty() -> None:
    worker = Worker(top_keys=1)
    worker.fold(user=[sent("ann", 5)])
    assert set(worker.samples(EVENTS)) == {series(w, "ann") for w in ("1m", "5m", "1h")}
    worker.fold(user=[sent("bob", 50)])
    shown = worker.samples(EVENTS)
    assert shown[series("1m", "bob")] == 50
    assert shown[series("1m", "_other")] == 5
    assert not any("ann" in labels for labels in shown)


@pytest.mark.parametrize("how", ["closed", "re-folding", "stopped"])
def test_what_a_partition_showed_goes_without_a_zero_when_it_is_not_shown_any_more(
    how: str,
) -> None:
    worker = Worker(2, top_keys=1)
    worker.fold(0, user=[sent("ann", 9), sent("abe", 2)])
    worker.fold(1, user=[sent("bob", 5)])
    assert worker.samples(EVENTS)[series("1h", "_other")] == 7
    if how == "closed":
        worker.board.close(0)
    elif how == "re-folding":
        worker.board.open(0)
    else:
        next(iter(worker.stats.partitions.values())).stopped = "a frame of a newer program"
    assert worker.samples(EVENTS) == {series(w, "bob"): 5 for w in ("1m", "5m", "1h")}


def test_a_partition_that_comes_back_shows_what_it_holds_and_no_zeros() -> None:
    worker = Worker()
    worker.fold(user=[sent("ann", 9)])
    worker.page()
    worker.board.open(0)
    worker.board.complete(0)
    assert worker.samples(EVENTS) == {}


def test_a_worker_that_may_have_lost_its_partitions_shows_no_windows() -> None:
    worker = Worker()
    worker.fold(user=[sent("ann", 9)])
    assert worker.samples(EVENTS)
    worker.clock.set(NOW + SESSION_MS + 1)
    assert worker.samples(EVENTS) == {}
    assert "# TYPE mail_user_events gauge\n" in worker.page()
    assert set(worker.samples("mailstream_windows_complete").values()) == {0}
    worker.pass_time(0)
    assert set(worker.samples(EVENTS).values()) == {9}


def test_an_incomplete_partition_among_complete_ones_is_left_out() -> None:
    worker = Worker(1)
    worker.fold(0, user=[sent("ann", 9)])
    worker.assign(DELTAS, 1)
    worker.board.open(1)
    worker.fold(1, user=[sent("bob", 9)])
    assert not any("bob" in labels for labels in worker.samples(EVENTS))
    assert set(worker.samples("mailstream_windows_complete").values()) == {0}
    worker.board.complete(1)
    next(held for tp, held in worker.stats.partitions.items() if tp.partition == 1).ready = True
    assert worker.samples(EVENTS)[series("1m", "bob")] == 9
    assert set(worker.samples("mailstream_windows_complete").values()) == {1}


def to(user: str, *domains: str, at_ms: int = NOW) -> Row:
    return Row((user,), "delivered", at_ms, values={"destinations": domains})


def test_distinct_values_are_shown_over_their_windows_and_under_other_as_pairs() -> None:
    worker = Worker(2, top_keys=1)
    worker.fold(0, user=[to("ann", "a.example", "b.example", "a.example"), to("ann", "b.example")])
    worker.fold(1, user=[to("bob", "a.example"), to("eve", "a.example", "c.example")])
    assert worker.samples("mail_user_destinations") == {
        f'window="{window}",user="{user}"': count
        for window in ("5m", "1h")
        for user, count in (("ann", 2), ("_other", 3))
    }
    assert worker.samples("mail_user_client_ips") == {}
    worker.pass_time(10 * MINUTE)
    five = worker.samples("mail_user_destinations")
    assert {name: count for name, count in five.items() if '"5m"' in name} == {
        'window="5m",user="ann"': 0,
        'window="5m",user="_other"': 0,
    }
    assert len(worker.samples("mail_user_destinations")) == 2


def test_more_values_than_are_counted_are_told_by_the_number_of_keys() -> None:
    worker = Worker()
    many = [f"d{n}.example" for n in range(1001)]
    worker.fold(user=[to("ann", *many), to("bob", *many[:1000])])
    assert set(worker.samples("mail_user_destinations").values()) == {1000}
    assert worker.samples("mailstream_distinct_capped")['family="user"'] == 1
    worker.pass_time(2 * HOUR)
    worker.page()
    assert worker.samples("mailstream_distinct_capped")['family="user"'] == 0


def test_windows_that_are_not_configured_have_no_distinct_values() -> None:
    board = Board((MINUTE, 2 * HOUR))
    board.open(0)
    board.complete(0)
    board.fold(0, [frame({"user": [to("ann", "a.example")]})], NOW)
    page = FamilyText(FAMILY["user"], (MINUTE, 2 * HOUR), 1).render(
        board.shares("user"), board.groups("user")
    )
    assert 'mail_user_events{window="2h",user="ann"' in page
    assert "mail_user_destinations{" not in page
