"""The status line's numbers, from a worker's metrics."""

from __future__ import annotations

from mailstream.running.watch import Reading, Totals, read, status_line

METRICS = """\
# HELP mail_events_total Events committed to mail.events.
# TYPE mail_events_total counter
mail_events_total{source="zonemta",event_type="sent",direction="outbound"} 40.0
mail_events_total{source="haraka",event_type="received",direction="inbound"} 2.0
mail_user_events{window="1m",user="a \\"quoted\\" } name",event_type="sent"} 9999.0
mail_events_dead_total{source="zonemta",reason="malformed"} 3.0
mail_events_duplicate_total{source="zonemta"} 5.0
mailstream_lag{topic="mail.raw.zonemta",partition="0"} 7.0
mailstream_lag{topic="mail.raw.zonemta",partition="1"} 1.0
mailstream_delay_seconds 1.25
mailstream_windows_complete{window="1m"} 1.0
mailstream_windows_complete{window="1h"} 0.0
"""


def test_only_the_wanted_numbers_are_read_and_added_up() -> None:
    assert read(METRICS) == Reading(
        events=42,
        dead=3,
        duplicates=5,
        lag=8,
        delay_s=1.25,
        partitions=2,
        incomplete=frozenset({"1h"}),
    )


def test_a_worker_that_has_nothing_to_tell_reads_as_zeros() -> None:
    assert read("") == Reading()


def test_totals_survive_the_restart_of_a_worker() -> None:
    totals = Totals()
    totals.take("worker-1", Reading(events=100, dead=1, duplicates=2))
    totals.take("worker-2", Reading(events=10))
    totals.take("worker-1", Reading(events=130, dead=1, duplicates=2))
    totals.take("worker-1", Reading(events=5))  # restarted: its counters began anew
    totals.take("worker-1", Reading(events=8, duplicates=1))
    assert (totals.events, totals.dead, totals.duplicates) == (148, 1, 3)


def test_the_line_tells_rate_lag_delay_and_completeness() -> None:
    readings = {
        "worker-1": Reading(lag=1200, delay_s=0.4, partitions=6),
        "worker-2": Reading(delay_s=2.0, partitions=6),
    }
    line = status_line(readings, 51.23, Totals(events=99, dead=2), "demo: 5 events accepted")
    assert line == (
        "51.2 events/s | lag 1,200 | delay 2.0 s | dead 2 | duplicates 0 | windows complete"
        " | demo: 5 events accepted"
    )


def test_the_line_names_workers_that_do_not_answer_and_windows_that_are_not_complete() -> None:
    readings = {
        "worker-1": Reading(partitions=1, incomplete=frozenset({"1h", "5m", "1m"})),
        "worker-2": None,
    }
    line = status_line(readings, 0, Totals(), "")
    assert "windows incomplete: 1m 5m 1h" in line
    assert line.endswith("no answer from worker-2")
    assert "no worker answers" in status_line({"worker-1": None}, 0, Totals(), "")


def test_a_worker_that_stands_by_says_nothing_about_the_windows() -> None:
    standing_by = Reading(incomplete=frozenset({"1m", "1h"}))
    readings = {"worker-1": Reading(partitions=12), "worker-2": standing_by}
    assert status_line(readings, 0, Totals(), "").endswith("windows complete")
    assert "no partition is assigned" in status_line({"worker-2": standing_by}, 0, Totals(), "")
