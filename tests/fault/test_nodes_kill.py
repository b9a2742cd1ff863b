"""The node agent is killed, and Kafka goes away: nothing acknowledged is lost, what waits arrives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.node_agent import NodeAgent, agent_of, node_records, sections
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.stand import Stand, stand

pytestmark = pytest.mark.fault

SENT = "mailstream_component_sent_events_total"
RECEIVED = "mailstream_component_received_events_total"
BUFFERED = "mailstream_nodes_buffered_observations"


def observed(st: Stand) -> list[str]:
    """Return the ids of the observations that are written."""
    return [one.header("id") for one in node_records(st) if one.header("feed") == "observation"]


def sent(agent: NodeAgent) -> float:
    return agent.page().total(SENT)


def settings(folder: Path) -> dict[str, object]:
    return sections(folders=[{"name": "queue", "path": str(folder)}], system_interval="1s")


def test_an_agent_that_is_killed_loses_nothing_that_was_acknowledged(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path, **settings(tmp_path)) as st, agent_of(st) as agent:
        acknowledged = 0.0
        for _ in range(2):
            wait_until(lambda: sent(agent) >= 3, "observations are written", within_s=60)
            acknowledged += sent(agent)
            agent.kill()
            agent.start()
            wait_until(lambda: agent.get("/metrics"), "it answers again", within_s=40)
        wait_until(lambda: sent(agent) >= 1, "observations are written again", within_s=60)
        found = observed(st)
        assert len(set(found)) > acknowledged
        boots = {
            json.loads(one.value)["boot_id"]
            for one in node_records(st)
            if one.header("feed") == "heartbeat"
        }
        assert len(boots) >= 2


def test_observations_made_while_kafka_is_away_arrive_once_it_is_back(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path, **settings(tmp_path)) as st, agent_of(st) as agent:
        wait_until(lambda: sent(agent) >= 1, "observations are written", within_s=60)
        kafka.kill()
        wait_until(lambda: agent.page().total(BUFFERED) >= 3, "observations wait", within_s=60)
        wait_until(lambda: health(agent) == 503, "the agent says so", within_s=60)
        assert agent.page().values("mail_system_folder_files")
        kafka.start()
        wait_until(lambda: health(agent) == 200, "observations get through", within_s=60)
        taken = agent.page().total(RECEIVED)
        wait_until(lambda: sent(agent) >= taken, "all of them are written", within_s=60)
        assert agent.stop() == 0
        assert "Traceback" not in agent.said(1 << 20)
        assert len(set(observed(st))) >= taken


def health(agent: NodeAgent) -> int | None:
    answer = agent.get("/health")
    return answer[0] if answer is not None else None
