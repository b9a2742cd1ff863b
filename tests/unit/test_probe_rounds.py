"""The rounds of a probe on a clock that tests turn: on time, side by side, and never without an outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from producers.sources.probe.attempt import ErrorClass, Failure, Phase
from producers.sources.probe.config import ProbeConfig
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.outcome import Kind, Outcome
from producers.sources.probe.schedule import Schedule
from tests.kit.clock import FakeClock
from tests.kit.probe_rounds import ScriptedLegs, tree, written

REFUSED = Failure(Phase.RCPT, ErrorClass.REJECTED, "550 5.1.1 nobody", 550, "5.1.1")
PREFIX = "mail_e2e_exporter_"


class Bench:
    """A schedule with scripted legs, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "config.yaml"
        self.clock = FakeClock()
        self.legs = ScriptedLegs(self.clock)
        self.registry = CollectorRegistry()
        self.metrics = ProbeMetrics(self.registry, PREFIX)
        self.told: list[Outcome] = []
        self.schedule: Schedule | None = None

    def config(self, content: dict[str, Any]) -> ProbeConfig:
        return written(self.path, content)

    @asynccontextmanager
    async def running(self, content: dict[str, Any]) -> AsyncIterator[Schedule]:
        self.schedule = Schedule(
            self.config(content), self.legs, self.metrics, self.clock, self.take
        )
        await self.schedule.start()
        try:
            yield self.schedule
        finally:
            for lane in self.schedule._lanes.values():
                assert lane.task is not None
                lane.task.cancel()
            await self.schedule.stop()

    def take(self, outcome: Outcome) -> None:
        self.told.append(outcome)
        self.metrics.take(outcome, None if outcome.failure is None else outcome.failure.text)

    def kinds(self, route: str = "r0") -> list[Kind]:
        return [one.kind for one in self.told if one.route.name == route]

    def value(self, name: str, route: str | None = "r0", **labels: str) -> float | None:
        if route is not None:
            number = route.removeprefix("r")
            labels = {"route": route, "from": f"a{number}", "to": f"a{number}", **labels}
        return self.registry.get_sample_value(PREFIX + name, labels)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_500_routes_at_60_s_are_each_on_time_with_some_hung(bench: Bench) -> None:
    async def scene() -> None:
        bench.legs.hung = {f"r{number}" for number in range(0, 500, 25)}
        async with bench.running(tree(500, check_interval_seconds=60)):
            await bench.clock.advance(300)

    run(scene)
    assert len(bench.legs.sends) == 500
    for route, times in bench.legs.sends.items():
        if route in bench.legs.hung:
            assert len(times) == 1
            continue
        assert len(times) == 5
        assert times[0] < 60
        gaps = [round(after - before) for before, after in itertools.pairwise(times)]
        assert gaps == [60] * 4
    finished = Counter(outcome.route.name for outcome in bench.told)
    assert set(finished.values()) <= {4, 5}
    assert len(finished) == 480


def test_a_bound_on_parallel_routes_is_kept(bench: Bench) -> None:
    async def scene() -> None:
        async with bench.running(tree(40, check_interval_seconds=60, max_parallel_routes=3)):
            await bench.clock.advance(59)

    run(scene)
    assert bench.legs.most_running <= 3
    assert {outcome.kind for outcome in bench.told} == {Kind.INBOX}
    assert len(bench.told) == 40


def test_a_round_that_is_slow_skips_what_was_due_and_keeps_the_grid(bench: Bench) -> None:
    async def scene() -> None:
        bench.legs.losing = {"r0"}
        async with bench.running(tree(1, check_interval_seconds=10, receive_timeout_seconds=25)):
            await bench.clock.advance(100)

    run(scene)
    assert [round(time) for time in bench.legs.sends["r0"]] == [0, 30, 60, 90]
    assert bench.value("rounds_skipped_total") == 6
    assert bench.kinds() == [Kind.LOST] * 3


def test_a_reload_in_the_middle_of_a_round_loses_no_outcome(bench: Bench) -> None:
    async def scene() -> None:
        bench.legs.gate = asyncio.Event()
        async with bench.running(tree(3, check_interval_seconds=60)) as schedule:
            await bench.clock.advance(5)
            assert bench.told == []
            changed = tree(3, check_interval_seconds=60, receive_timeout_seconds=9)
            del changed["tests"][2]
            changed["tests"].append({"name": "new", "from": "a1", "to": "a0"})
            await schedule.apply(bench.config(changed))
            await bench.clock.advance(5)
            bench.legs.gate.set()
            bench.legs.gate = None
            await bench.clock.advance(5)
            assert sorted(outcome.route.name for outcome in bench.told) == ["new", "r0", "r1", "r2"]
            assert {outcome.kind for outcome in bench.told} == {Kind.INBOX}
            first = next(one for one in bench.told if one.route.name == "r0")
            assert first.route.receive_timeout_s == 120, "it ends as it began"
            await bench.clock.advance(60)

    run(scene)
    times = Counter(outcome.route.name for outcome in bench.told)
    assert times == {"r0": 2, "r1": 2, "r2": 1, "new": 2}
    assert len({outcome.token for outcome in bench.told}) == 7
    page = [s.labels.get("route") for m in bench.registry.collect() for s in m.samples]
    assert "r2" not in page
    assert "new" in page


def test_a_route_that_comes_back_while_its_last_round_goes_on_has_both_outcomes(
    bench: Bench,
) -> None:
    async def scene() -> None:
        bench.legs.gate = asyncio.Event()
        async with bench.running(tree(2, check_interval_seconds=60)) as schedule:
            await bench.clock.advance(5)
            await schedule.apply(bench.config(tree(1, check_interval_seconds=60)))
            await schedule.apply(bench.config(tree(2, check_interval_seconds=60)))
            await bench.clock.advance(5)
            bench.legs.gate.set()
            await bench.clock.advance(5)

    run(scene)
    assert bench.kinds("r1") == [Kind.INBOX] * 2


def test_a_late_mail_is_late_and_no_success_of_the_later_round(bench: Bench) -> None:
    async def scene() -> None:
        bench.legs.losing = {"r0"}
        async with bench.running(tree(1, check_interval_seconds=60, receive_timeout_seconds=10)):
            await bench.clock.advance(30)
            assert bench.kinds() == [Kind.LOST]
            lost = bench.told[0].token
            bench.legs.seen["r0"] = [bench.legs.found(lost, age_ms=25_000)]
            await bench.clock.advance(60)
            assert bench.kinds() == [Kind.LOST, Kind.LOST, Kind.LATE]
            assert bench.told[2].token == lost
            assert bench.told[2].roundtrip_ms == 25_000
            bench.legs.seen["r0"] = [bench.legs.found(lost)]
            await bench.clock.advance(60)

    run(scene)
    assert bench.kinds() == [Kind.LOST, Kind.LOST, Kind.LATE, Kind.LOST, Kind.DUPLICATE]
    assert bench.value("receive_success") == 0
    assert bench.value("late_mails_total") == 1
    assert bench.value("duplicate_mails_total") == 1
    assert bench.value("test_errors_total", step="receive") == 3


def test_left_overs_of_an_earlier_process_are_cleaned_up_and_late_only_if_they_were(
    bench: Bench,
) -> None:
    async def scene() -> None:
        legs = bench.legs
        legs.seen["r0"] = [
            legs.found("of-a-killed-process", age_ms=4_000),
            legs.found("came-late", age_ms=500_000),
        ]
        async with bench.running(tree(1, check_interval_seconds=60)):
            await bench.clock.advance(30)

    run(scene)
    assert bench.kinds() == [Kind.INBOX, Kind.LATE]
    assert bench.told[1].token == "came-late"
    assert bench.value("left_over_mails_total", None) == 2


def test_where_mails_are_kept_those_of_earlier_rounds_mean_nothing(bench: Bench) -> None:
    async def scene() -> None:
        async with bench.running(
            tree(1, check_interval_seconds=60, delete_testmail_after_verify=False)
        ):
            bench.legs.seen["r0"] = [bench.legs.found("of-last-week", age_ms=7 * 86_400_000)]
            await bench.clock.advance(30)
            bench.legs.seen["r0"].append(bench.legs.found(bench.told[0].token))
            await bench.clock.advance(7200)

    run(scene)
    assert set(bench.kinds()) == {Kind.INBOX}


def test_copies_are_told_besides(bench: Bench) -> None:
    async def scene() -> None:
        bench.legs.copies["r0"] = 2
        async with bench.running(tree(1)):
            await bench.clock.advance(10)

    run(scene)
    assert bench.kinds() == [Kind.INBOX, Kind.DUPLICATE]
    assert bench.value("receive_success") == 1


def test_an_uncertain_mail_that_is_found_was_delivered_and_else_is_uncertain(bench: Bench) -> None:
    async def scene() -> None:
        bench.legs.uncertain = {"r0"}
        async with bench.running(
            tree(1, check_interval_seconds=60, uncertain_probe_timeout_seconds=5)
        ):
            await bench.clock.advance(20)
            assert bench.kinds() == [Kind.UNCERTAIN]
            assert bench.value("send_uncertain") == 1

    run(scene)
    assert bench.value("test_errors_total", step="send") == 1
    assert bench.value("errors_by_class_total", **{"class": "dropped"}) == 1


def test_success_changes_only_when_a_round_ends_and_no_roundtrip_is_left_of_a_failed_one(
    bench: Bench,
) -> None:
    async def scene() -> None:
        async with bench.running(tree(1, check_interval_seconds=60)):
            assert bench.value("receive_success") is None
            assert bench.value("test_errors_total", step="config") == 0
            await bench.clock.advance(10)
            assert bench.value("receive_success") == 1
            assert bench.value("roundtrip_seconds") == 1.5
            bench.legs.refusing["r0"] = REFUSED
            await bench.clock.advance(50.3)
            assert len(bench.legs.sends["r0"]) == 2
            assert bench.value("receive_success") == 1, "the round has not ended"
            await bench.clock.advance(10)
            assert bench.value("send_success") == 0
            assert bench.value("receive_success") == 0
            assert bench.value("receive_skipped") == 1
            assert bench.value("roundtrip_seconds") is None
            assert bench.value("last_error_info") != 0
            assert bench.value("errors_by_class_total", **{"class": "rejected"}) == 1
            (error,) = bench.metrics.errors()
            assert error["error"] == REFUSED.text
            del bench.legs.refusing["r0"]
            bench.legs.junk = {"r0"}
            await bench.clock.advance(60)
            assert bench.value("last_error_info") == 0
            assert bench.value("found_in_folder", folder="Junk") == 1
            assert bench.value("found_in_folder", folder="INBOX") == 0

    run(scene)
    assert bench.kinds() == [Kind.INBOX, Kind.SEND_FAILED, Kind.JUNK]


def test_mails_of_one_account_keep_their_distance(bench: Bench) -> None:
    async def scene() -> None:
        content = tree(4, check_interval_seconds=60, min_smtp_interval_seconds=7)
        for number in range(4):
            content["tests"][number]["from"] = "a0"
        async with bench.running(content):
            await bench.clock.advance(50)

    run(scene)
    times = sorted(time for some in bench.legs.sends.values() for time in some)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) == 4
    assert all(gap > 6.5 for gap in gaps)


def test_jitter_moves_a_mail_by_no_more_than_it_says(bench: Bench) -> None:
    async def scene() -> None:
        async with bench.running(tree(20, check_interval_seconds=100, send_jitter_max_seconds=30)):
            await bench.clock.advance(90)

    run(scene)
    assert all(0 <= times[0] < 33 for times in bench.legs.sends.values())
    assert len({round(times[0]) for times in bench.legs.sends.values()}) > 1


def test_a_leg_that_breaks_is_an_outcome_and_not_the_end(bench: Bench) -> None:
    class Broken(ScriptedLegs):
        async def receive(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("a bug")

    async def scene() -> None:
        bench.legs = Broken(bench.clock)
        async with bench.running(tree(1, check_interval_seconds=60)):
            await bench.clock.advance(130)

    run(scene)
    assert bench.kinds() == [Kind.RECEIVE_FAILED] * 3
    assert bench.told[0].failure is not None
    assert "a bug" in bench.told[0].failure.text


def test_times_and_errors_are_shown_by_the_exporter_s_names(bench: Bench) -> None:
    greylisted = Failure(Phase.RCPT, ErrorClass.THROTTLED, "451 4.7.1 come again", 451, "4.7.1")
    unusable = Failure(Phase.TLS, ErrorClass.CONFIG, "ca.pem cannot be used")

    async def scene() -> None:
        async with bench.running(tree(1, check_interval_seconds=60)):
            await bench.clock.advance(10)
            for failure in (greylisted, unusable):
                bench.legs.refusing["r0"] = failure
                await bench.clock.advance(60)

    run(scene)
    began_s = FakeClock().now_ms() / 1000
    assert bench.value("last_send_timestamp") == began_s + 120
    assert bench.value("last_receive_timestamp") == began_s + 1.5
    steps = {step: bench.value("test_errors_total", step=step) for step in ("send", "receive")}
    assert (steps, bench.value("test_errors_total", step="config")) == (
        {"send": 1, "receive": 0},
        1,
    )
    assert bench.value("errors_by_class_total", **{"class": "throttled"}) == 1
    assert bench.value("send_rate_limited_total", code="451") == 1
    assert bench.value("smtp_replies_total", code="250") == 1
    sample = bench.registry.get_sample_value
    assert sample(PREFIX + "consecutive_failures", {"route": "r0", "phase": "send"}) == 2
    assert sample(PREFIX + "consecutive_failures", {"route": "r0", "phase": "receive"}) == 0
    assert sample(PREFIX + "mx_records_total", {"route": "r0"}) == 1
    lookups = {"route": "r0", "type": "mx"}
    assert sample(PREFIX + "dns_lookup_seconds_count", lookups) == 3
    assert sample(PREFIX + "smtp_connect_seconds_sum", {"route": "r0"}) == pytest.approx(0.006)
    assert sample(PREFIX + "config_check_interval_seconds") == 60
    assert sample(PREFIX + "config_receive_timeout_seconds") == 120
    assert sample(PREFIX + "config_receive_poll_seconds") == 5
    assert sample(PREFIX + "config_smtp_timeout_seconds") == 60
    assert sample(PREFIX + "config_delete_testmail_after_verify") == 1
