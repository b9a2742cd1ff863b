"""When windows are called complete, and how late a worker says it is."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.core.batch import TopicPartition
from pipeline.core.engine_stats import OriginTimes, PartitionStats
from tests.kit.frames import Row
from tests.kit.worker import DELTAS, NOW, RAW, SESSION_MS, Worker

SECOND = 1000


def with_source(lag: int = 0) -> tuple[Worker, PartitionStats]:
    worker = Worker()
    source = worker.assign(RAW, 0)
    source.ready, source.position, source.high_watermark = True, 100, 100 + lag
    worker.exporter.tick()
    return worker, source


def complete(worker: Worker) -> bool:
    return worker.exporter.freshness.is_complete(worker.clock.now_ms())


def delay_s(worker: Worker) -> float:
    return worker.exporter.freshness.delay_ms(worker.clock.now_ms()) / 1000


def test_an_idle_worker_is_not_late() -> None:
    worker, source = with_source()
    source.received_ms = NOW
    worker.pass_time(3600 * SECOND)
    assert (delay_s(worker), complete(worker)) == (0, True)


def test_the_first_record_after_a_pause_is_not_late_either() -> None:
    worker, source = with_source()
    source.received_ms = NOW
    worker.pass_time(3600 * SECOND)
    worker.exporter.tick()
    source.high_watermark += 1
    worker.pass_time(SECOND)
    assert (delay_s(worker), complete(worker)) == (1, True)


def test_a_worker_that_works_off_a_backlog_is_as_late_as_what_it_commits() -> None:
    worker, source = with_source(lag=1000)
    source.received_ms = NOW - 31 * SECOND
    assert (delay_s(worker), complete(worker)) == (31, False)
    source.received_ms = NOW - 30 * SECOND
    assert (delay_s(worker), complete(worker)) == (30, True)


def test_a_partition_that_is_up_to_date_hides_no_other_s_backlog() -> None:
    worker, behind = with_source(lag=1000)
    current = worker.assign(RAW, 1)
    current.ready, current.received_ms = True, NOW
    assert not complete(worker)
    behind.received_ms = NOW - 3600 * SECOND
    assert (delay_s(worker), complete(worker)) == (3600, False)


def test_a_worker_that_gets_stuck_becomes_late() -> None:
    worker, source = with_source()
    source.received_ms = NOW
    source.high_watermark += 1
    worker.pass_time(31 * SECOND)
    worker.exporter.tick()
    assert (delay_s(worker), complete(worker)) == (31, False)


def test_a_backlog_of_unknown_age_makes_windows_incomplete_but_no_false_delay() -> None:
    worker, _ = with_source(lag=1000)
    assert (delay_s(worker), complete(worker)) == (0, False)


def test_a_rebalance_does_not_make_the_next_record_late() -> None:
    worker, source = with_source()
    worker.pass_time(3600 * SECOND)
    worker.exporter.tick()
    source.ready = False
    worker.pass_time(SECOND)
    worker.exporter.tick()
    assert not complete(worker)
    source.ready, source.high_watermark = True, 200
    assert (delay_s(worker), complete(worker)) == (1, True)


def test_a_partition_that_moved_away_and_came_back_is_of_unknown_delay() -> None:
    worker, source = with_source()
    del worker.stats.partitions[source.tp]
    worker.exporter.tick()
    worker.stats.partitions[source.tp] = source
    source.high_watermark = 200
    assert not complete(worker)


def test_a_clock_that_was_set_back_makes_no_negative_delay() -> None:
    worker, source = with_source(lag=1)
    source.received_ms = NOW + SECOND
    assert delay_s(worker) == 0


def test_a_fold_that_stays_behind_is_late_by_the_watermark_of_its_frames() -> None:
    worker = Worker()
    held = worker.stats.partitions[TopicPartition(DELTAS, 0)]
    worker.fold()
    held.high_watermark = 5
    worker.pass_time(31 * SECOND)
    assert (delay_s(worker), complete(worker)) == (31, False)
    worker.fold()
    assert (delay_s(worker), complete(worker)) == (0, True)


def test_windows_are_incomplete_without_partitions_members_or_a_whole_fold() -> None:
    worker, source = with_source()
    assert complete(worker)
    worker.board.open(0)
    assert not complete(worker)
    worker.board.complete(0)
    source.stopped = "ten poison records in a minute"
    assert not complete(worker)
    source.stopped, source.ready = None, False
    assert not complete(worker)
    source.ready = True
    worker.clock.set(NOW + SESSION_MS)
    assert complete(worker)
    worker.clock.set(NOW + SESSION_MS + 1)
    assert not complete(worker)
    worker.clock.set(NOW)
    worker.board.close(0)
    assert not complete(worker)
    assert not complete(Worker(0))


def test_a_revoked_fold_has_no_watermark() -> None:
    worker = Worker()
    worker.board.close(0)
    worker.stats.partitions[TopicPartition(DELTAS, 0)].high_watermark = 5
    assert (delay_s(worker), complete(worker)) == (0, False)


def test_a_worker_says_what_it_waits_for() -> None:
    worker, source = with_source()
    waiting = worker.exporter.freshness.waiting
    assert waiting(NOW) == []
    assert waiting(NOW + SESSION_MS + 1) == ["the last heartbeat is older than the session timeout"]
    source.ready = False
    worker.board.open(0)
    assert waiting(NOW) == [
        "mail.deltas 0 is being folded again",
        "mail.raw.zonemta 0 is being opened",
    ]
    source.stopped = "ten poison records in a minute"
    worker.board.complete(0)
    assert waiting(NOW) == ["mail.raw.zonemta 0 stopped: ten poison records in a minute"]
    worker.stats.rebalances = 0
    assert waiting(NOW) == ["the worker has not joined its group yet"]


def test_a_worker_for_whom_no_partition_is_left_is_ready() -> None:
    assert Worker(0).exporter.freshness.waiting(NOW) == []


@pytest.mark.parametrize("heard", [False, True])
def test_an_expected_origin_is_zero_until_it_is_heard_of(*, heard: bool) -> None:
    worker = Worker(expected_origins=("mta1",))
    if heard:
        worker.stats.origins["zonemta", "mta1"] = OriginTimes(NOW, NOW - 500, 500)
    shown = worker.samples("mailstream_last_received_timestamp_seconds")
    known = {'origin="mta1",source="zonemta"': NOW / 1000}
    unknown = {'origin="mta1",source=""': 0}
    assert shown == (known if heard else unknown)


def test_a_page_on_which_a_partition_came_in_between_is_not_called_complete() -> None:
    worker = Worker(2)
    worker.board.open(1)
    worker.fold(1, user=[Row(("ann",), "sent", NOW)])

    async def scrape() -> str:
        page = asyncio.create_task(worker.exporter.page())
        await asyncio.sleep(0)
        assert not page.done()
        worker.board.complete(1)
        return (await page).body.decode()

    page = asyncio.run(scrape())
    assert 'mailstream_windows_complete{window="1h"} 0.0' in page
    assert 'mailstream_windows_complete{window="1h"} 1.0' in worker.page()
