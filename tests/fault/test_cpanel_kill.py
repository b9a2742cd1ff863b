"""Each row once: the cPanel poller is killed, and its broker too, while mail flows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.kit.cpanel_process import (
    INTERVAL,
    Traffic,
    assert_each_row_once,
    counted,
    poller,
    raw_rows,
    section,
)
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.stand import Stand, stand
from tests.kit.whm import SEARCH, Whm, serving

pytestmark = pytest.mark.fault

SERVERS = 4
PER_SECOND = 20
KILLS = 6


def servers_of() -> list[Whm]:
    return [Whm(user=f"web{number}") for number in range(SERVERS)]


def wait_for_more_polls(servers: list[Whm], polls: int) -> None:
    """Wait until one of *servers* was asked so many more times: any moment of a poll."""
    goal = servers[0].count(SEARCH) + polls
    wait_until(lambda: servers[0].count(SEARCH) >= goal, "it polls", within_s=90, every_s=0.01)


def wait_until_all_are_written(st: Stand, traffic: Traffic) -> None:
    wait_until(
        lambda: counted(raw_rows(st)) >= traffic.logged,
        "every row is written",
        within_s=90,
        every_s=0.5,
    )


def test_kills_of_the_poller_lose_and_repeat_nothing(kafka: OwnBroker, tmp_path: Path) -> None:
    servers = servers_of()
    traffic = Traffic(servers, PER_SECOND)
    rng = random.Random(1)
    with (
        serving(*servers) as url,
        stand(kafka.bootstrap, tmp_path, cpanel=section(url, servers, interval=INTERVAL)) as st,
    ):
        with traffic.flowing():
            for _ in range(KILLS):
                service = poller(st)
                wait_for_more_polls(servers, rng.randrange(1, 12))
                service.kill()
            service = poller(st)
            wait_for_more_polls(servers, 2)
        wait_until_all_are_written(st, traffic)
        assert service.stop() == 0
        assert_each_row_once(st, traffic.logged)


def test_a_kill_of_the_broker_loses_and_repeats_nothing(kafka: OwnBroker, tmp_path: Path) -> None:
    servers = servers_of()
    traffic = Traffic(servers, PER_SECOND)
    with (
        serving(*servers) as url,
        stand(kafka.bootstrap, tmp_path, cpanel=section(url, servers, interval=INTERVAL)) as st,
    ):
        service = poller(st)
        with traffic.flowing():
            for _ in range(2):
                wait_for_more_polls(servers, 5)
                kafka.kill()
                kafka.start()
            wait_for_more_polls(servers, 2)
        wait_until_all_are_written(st, traffic)
        assert service.stop() == 0
        assert_each_row_once(st, traffic.logged)
