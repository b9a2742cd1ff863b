"""The agent's schedule, its page, and its buffer, without a network."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipeline.core.errors import TransientError
from pipeline.core.observation import Heartbeat, Observation
from pipeline.kit.settings_nodes import WatchedProcess
from pipeline.kit.telemetry import ComponentMetrics, scrape
from producers.sender_numbers import Numbers
from producers.sources.nodes import mongodb, redis_info, system, wildduck, zone_queue, zonemta
from producers.sources.nodes.board import Board, Place
from producers.sources.nodes.exposition import shown_again
from producers.sources.nodes.outbox import Held, Lost, Outbox, RefusedError, TooManyError
from producers.sources.nodes.polling import Poller
from producers.sources.nodes.processes import Watch
from producers.sources.nodes.samples import Family, Sample
from tests.kit.clock import FakeClock
from tests.kit.node_programs import sample
from tests.kit.programs import program
from tests.kit.scrape import Page
from tests.unit.test_nodes_collectors import MONGODB, body, redis_dictionary, replica_set

SEEN = Family("mail_seen", "What was seen.")
QUEUE = Family("mail_queue", "What waits.", per_cluster=True)


@dataclass
class Sent:
    """A sink that remembers, and fails as told."""

    failures: list[Exception] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    closed: bool = False

    async def send(self, batch: Sequence[Held], numbers: Numbers) -> int:
        assert [one.seq for one in batch] == list(range(numbers.first, numbers.last + 1))
        if self.failures:
            raise self.failures.pop(0)
        self.seqs += [one.seq for one in batch]
        return 0

    async def tell(self, heartbeat: Heartbeat) -> None:
        self.heartbeats.append(heartbeat)


@dataclass
class Looked:
    """A target that counts its looks."""

    node: str
    answer: Callable[[], list[Sample]]
    source: str = "zonemta"
    interval_ms: int = 15_000
    at: list[int] = field(default_factory=list)
    hangs: bool = False

    async def poll(self, now_ms: int) -> list[Sample]:
        self.at.append(now_ms)
        if self.hangs:
            await asyncio.Event().wait()
        return self.answer()

    async def close(self) -> None:
        self.at.append(-1)


class Agent:
    """The agent's parts but the listener."""

    def __init__(self, *targets: Looked, sink: Sent | None = None, most: int = 10_000) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.sink = sink or Sent()
        component = ComponentMetrics(self.registry, "nodes", Lost)
        self.outbox = Outbox("host1", self.sink, component, self.registry, self.clock, most=most)
        self.board = Board(self.registry)
        self.poller = Poller(targets, self.board, self.outbox, component, self.clock)

    def page(self) -> Page:
        return Page([scrape(self.registry)[0].decode()])

    def add(self, count: int) -> None:
        for _ in range(count):
            self.outbox.add(Observation(node="host1", what="system", at=1, values={"x": 1}))


def fails(error: Exception) -> Callable[[], list[Sample]]:
    def answer() -> list[Sample]:
        raise error

    return answer


async def running(agent: Agent, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.create_task(agent.poller.run()), asyncio.create_task(agent.outbox.run())]
    try:
        await work()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_a_hundred_nodes_are_looked_at_on_time_whatever_some_of_them_do() -> None:
    targets = [Looked(f"mta{number}", lambda: [SEEN.sample(1)]) for number in range(100)]
    targets[3].hangs = True
    targets[4].answer = fails(TransientError("away"))
    targets[5].answer = fails(ZeroDivisionError())
    agent = Agent(*targets)
    began = agent.clock.now_ms()

    async def an_hour() -> None:
        await agent.clock.advance(3600 - 1)

    asyncio.run(running(agent, an_hour))
    for place, target in enumerate(targets):
        due = [began + 50 * place + 15_000 * turn for turn in range(240)]
        assert target.at == pytest.approx(due[:1] if target.hangs else due, abs=1)
    page = agent.page()
    assert page.total("mailstream_up") == 97
    assert page.values("mailstream_up", origin="mta5") == [0]
    assert page.total("mail_seen") == 97
    sent = page.total("mailstream_component_sent_events_total")
    assert sent == page.total("mailstream_component_received_events_total") == 97 * 240
    assert page.total("mailstream_component_errors_total", reason="bug") == 240
    assert len(agent.sink.heartbeats) == 240


def test_the_series_of_a_target_vanish_while_it_is_down() -> None:
    target = Looked("mta1", lambda: [SEEN.sample(7, zone="a")])
    agent = Agent(target)

    async def down_and_up() -> None:
        await agent.poller.look(target)
        assert agent.page().values("mail_seen", node="mta1", zone="a") == [7]
        good, target.answer = target.answer, fails(TransientError("away"))
        await agent.poller.look(target)
        assert agent.page().values("mail_seen") == []
        assert agent.page().values("mailstream_up", source="zonemta", origin="mta1") == [0]
        assert agent.board.down == {Place("zonemta", "mta1"): "away"}
        target.answer = good
        await agent.poller.look(target)
        assert agent.page().values("mail_seen") == [7]
        assert agent.board.down == {}
        await agent.poller.stop()
        assert target.at[-1] == -1

    asyncio.run(down_and_up())


def test_nodes_on_one_database_show_their_queue_once_and_not_summed() -> None:
    board = Board(registry := CollectorRegistry())
    for node, cluster, count in (("mta1", "a", 7), ("mta2", "a", 9), ("mta3", "b", 1)):
        samples = [QUEUE.sample(count, cluster=cluster), SEEN.sample(1)]
        board.answered(Place("zonemta", node), samples, 0.1, 1)
    page = Page([scrape(registry)[0].decode()])
    assert page.values("mail_queue", cluster="a") == [9]
    assert page.values("mail_queue", cluster="b") == [1]
    assert len(page.values("mail_seen")) == 3


def everything(registry: CollectorRegistry) -> None:
    board = Board(registry)
    zone = "default"
    api = sample("zonemta_api.json")
    queue = zonemta.queue_of(body(api["/counter/zone/"]))
    storage = wildduck.Storage()
    wildduck_page = (
        "# HELP wildduck_connections Open.\n# TYPE wildduck_connections gauge\n"
        "wildduck_connections 3\n# HELP wildduck_connections_total All.\n"
        "# TYPE wildduck_connections_total counter\nwildduck_connections_total 9\n"
    )
    found = {
        "zonemta": [
            *zonemta.queue_samples("main", queue, {}, 1),
            *zonemta.blacklist_samples(body(api["/blacklist"])),
            *zonemta.suppression_samples(body(api["/suppressionlist"])),
            *zonemta.skipped_samples({zone: body(api["/skipdomains/default"])}),
            *shown_again(sample("zonemta_metrics.txt"), "zonemta", zonemta.RENAMED),
        ],
        "mongodb": [
            *mongodb.status_samples(MONGODB["server_status"]),
            *mongodb.replica_set_samples(replica_set()),
            *mongodb.command_samples("serverStatus", mongodb.OK),
            *zone_queue.zone_samples(
                [{"_id": {"zone": zone}, "messages": 2, "older_300": 1}],
                datetime(2026, 1, 1, tzinfo=UTC),
            ),
            *zone_queue.domain_samples([{"_id": "example.org", "messages": 2}]),
        ],
        "redis": redis_info.info_samples(redis_dictionary(sample("redis_info.txt"))),
        "wildduck": [
            *storage.samples(),
            wildduck._USERS.sample(2),
            *shown_again(wildduck_page, "wildduck", {}),
        ],
        "system": [*system.look(), *Watch(WatchedProcess(name="x")).look(())],
    }
    for source, samples in found.items():
        for node in ("mta1", "mta2"):
            board.answered(Place(source, node), samples, 0.1, 1)


def test_promtool_finds_nothing_to_say_about_the_metrics_of_all_collectors() -> None:
    registry = CollectorRegistry()
    everything(registry)
    page = scrape(registry)[0].decode()
    done = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=page,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "", 0)
    assert Page([page]).values("mail_wildduck_connections_current", node="mta1") == [3]
    assert Page([page]).values("mail_wildduck_connections_total", node="mta2") == [9]
    names = {one.name for one in Page([page]).samples}
    assert len({name.split("_")[1] for name in names if name.startswith("mail_")}) == 5
    assert b"# EOF" in scrape(registry, "application/openmetrics-text; version=1.0.0")[0]


def test_observations_wait_while_nobody_takes_them_and_the_oldest_go_first() -> None:
    agent = Agent(sink=Sent([TransientError("away")] * 30), most=100)

    async def away() -> None:
        agent.add(40)
        await agent.clock.advance(1)
        assert agent.outbox.trouble == "away"
        agent.add(100)
        assert agent.outbox.buffered == 100
        told = agent.outbox.heartbeat()
        assert (told.last_seq, told.buffered, told.dropped_total) == (140, 100, 40)
        await agent.clock.advance(600)
        assert agent.outbox.trouble is None

    asyncio.run(running(agent, away))
    assert agent.sink.seqs == [*range(1, 41), *range(81, 141)]
    page = agent.page()
    assert page.total("mailstream_component_discarded_events_total", reason="overflow") == 40
    assert page.total("mailstream_component_sent_events_total") == 100
    assert page.values("mailstream_nodes_buffered_observations") == [0]


def test_observations_that_are_refused_for_good_stop_nothing() -> None:
    agent = Agent(sink=Sent([RefusedError("status 400")]))

    async def refused() -> None:
        agent.add(3)
        await agent.clock.advance(1)
        agent.add(2)
        await agent.clock.advance(1)

    asyncio.run(running(agent, refused))
    assert agent.sink.seqs == [4, 5]
    assert agent.outbox.heartbeat().dropped_total == 3


def test_a_far_side_that_wants_fewer_at_once_gets_fewer() -> None:
    agent = Agent(sink=Sent([TooManyError(""), TooManyError("")]))

    async def fewer() -> None:
        agent.add(9)
        await agent.clock.advance(1)

    asyncio.run(running(agent, fewer))
    assert agent.sink.seqs == list(range(1, 10))
    assert agent.outbox.buffered == 0


def test_a_batch_ends_where_numbers_are_missing() -> None:
    agent = Agent(sink=Sent([TransientError("away"), TooManyError("")]), most=13)

    async def overflow() -> None:
        agent.add(11)
        await agent.clock.advance(0.01)
        agent.add(10)  # while eleven are on their way, so that eight of these go
        await agent.clock.advance(60)

    asyncio.run(running(agent, overflow))
    assert agent.sink.seqs == [*range(1, 12), 20, 21]
    assert agent.outbox.heartbeat().dropped_total == 8


def test_a_stop_sends_what_is_held() -> None:
    agent = Agent()

    async def stop() -> None:
        agent.add(5)
        await agent.outbox.stop()

    asyncio.run(stop())
    assert agent.sink.seqs == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("bad", ["a@example.com", "x" * 500, "a\nb"])
def test_labels_are_short_on_one_line_and_no_addresses(bad: str) -> None:
    ((_, text),) = SEEN.sample(1, zone=bad).labels
    assert "@" not in text
    assert "\n" not in text
    assert len(text) < 130
