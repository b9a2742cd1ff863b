"""The node agent as a process, before real programs or stand-ins that speak their protocols."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mailstream.ports import free_port
from pipeline.core.event import partition_of
from tests.kit import mongod as mongod_kit
from tests.kit.http_server import serving
from tests.kit.mongod import Mongod, refusal
from tests.kit.node_agent import NodeAgent, agent_of, node_records, sections, values_of
from tests.kit.node_programs import WildduckApi, ZonemtaApi, sample
from tests.kit.processes import Program, wait_until
from tests.kit.programs import program
from tests.kit.scrape import Page
from tests.kit.stand import Stand, stand

pytestmark = pytest.mark.integration

MONGODB = sample("mongodb.json")
PASSWORD, TOKEN = "redis-pass-5ecret", "wildduck-token-5ecret"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("redis")
    port = free_port("127.0.0.1")
    config = folder / "redis.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nuser default off\n"
        f"user mailstream on >{PASSWORD} +info\n"
    )
    server = Program("redis", [program("redis-server"), config], folder)
    server.start()
    try:
        wait_until(lambda: "Ready to accept" in server.said(), "redis listens", within_s=20)
        yield port
    finally:
        server.end()


def replicated() -> Mongod:
    status = json.loads(json.dumps(MONGODB["replica_set_status"]))
    for member in status["members"]:
        member["optimeDate"] = datetime.fromisoformat(member["optimeDate"])
    oldest = datetime.fromisoformat("2026-11-21T00:00:00Z") - timedelta(days=1)
    group = {"_id": {"zone": "default", "deferred": True}, "messages": 7, "oldest": oldest}
    cursor = {"id": 0, "ns": "zone-mta.zone-queue", "firstBatch": [group | {"older_3600": 4}]}
    domains = [{"_id": "example.org", "messages": 5}, {"_id": None, "messages": 2}]
    return Mongod(
        {
            "serverStatus": MONGODB["server_status"],
            "replSetGetStatus": status,
            "aggregate": {"cursor": cursor, "ok": 1.0},
            "$domain": {"cursor": cursor | {"firstBatch": domains}, "ok": 1.0},
        }
    )


def test_every_kind_of_target_is_shown_and_written_to_kafka(
    broker: str, tmp_path: Path, redis: int
) -> None:
    api, wildduck = ZonemtaApi(), WildduckApi(TOKEN, users=600)
    queue = tmp_path / "queue"
    queue.mkdir()
    (queue / "one").touch()
    with (
        serving(api.app()) as zonemta_server,
        serving(wildduck.app()) as wildduck_server,
        mongod_kit.serving(replicated()) as mongod,
        stand(
            broker,
            tmp_path / "data",
            **sections(
                [
                    {"name": "mta1", "url": f"{zonemta_server.url}/mta1"},
                    {"name": "mta2", "url": f"{zonemta_server.url}/mta2"},
                ],
                system=True,
                processes=[{"name": "broker", "match": "kafka.Kafka"}, "nothing-like-it"],
                folders=[{"name": "haraka", "path": str(queue)}],
                mongodb=[{"name": "db1", "uri": mongod.uri, "zonemta_database": "zone-mta"}],
                redis=[
                    {
                        "address": f"127.0.0.1:{redis}",
                        "username": "mailstream",
                        "password": PASSWORD,
                    }
                ],
                wildduck=[{"url": wildduck_server.url, "token": TOKEN}],
            ),
        ) as st,
        agent_of(st) as agent,
    ):
        page = agent.wait_for_up(8)
        queued = {"cluster": "main", "zone": "default", "state": "deferred"}
        assert page.values("mail_zonemta_queue_messages", **queued) == [7]
        (age,) = page.values("mail_zonemta_queue_oldest_seconds", zone="default")
        assert age > 0
        status = {"zone": "default", "status": "rejected"}
        assert page.values("mail_zonemta_delivery_status_total", node="mta2", **status) == [6]
        blocked = {"node": "mta1", "ip": "127.0.0.2", "domain": "example.org"}
        assert page.values("mail_zonemta_blacklisted", **blocked) == [1]
        assert page.values("mail_mongodb_primaries", node="db1") == [1]
        assert page.values("mail_mongodb_queue_messages", zone="default", state="deferred") == [7]
        older = {"zone": "default", "seconds": "3600"}
        assert page.values("mail_mongodb_queue_older_messages", **older) == [4]
        assert page.values("mail_mongodb_queue_domain_messages", domain="example.org") == [5]
        assert page.values("mail_redis_is_master", node="host1") == [1]
        assert page.values("mail_wildduck_users", node="host1") == [600]
        assert page.values("mail_wildduck_storage_used_bytes") == [300 * 4096]
        assert page.values("mail_wildduck_storage_users") == [600]
        assert page.values("mail_system_folder_files", folder="haraka") == [1]
        assert page.values("mail_system_process_up", process="nothing-like-it") == [0]
        assert page.values("mail_system_memory_size_bytes", node="host1")[0] > 1 << 20
        assert api.methods == {"GET"}
        wait_until(lambda: agent.answers("/health"), "observations get through", within_s=30)
        assert agent.stop() == 0
        text = agent.said(1 << 20)
        found = node_records(st)
    whats = {json.loads(one.value).get("what") for one in found}
    assert whats >= {"system", "processes", "folder", "mongodb", "redis", "wildduck", "zonemta"}
    for one in found:
        assert [name for name, _ in one.headers] == ["id", "source", "feed", "origin", "received"]
        assert (one.header("source"), one.header("origin")) == ("nodes", "host1")
        assert one.key is not None
        assert one.key == json.loads(one.value)["node"].encode()
        assert one.partition == partition_of(one.key, 4)
    name = 'mail_zonemta_queue_messages{cluster="main",state="deferred",zone="default"}'
    assert {one[name] for one in values_of(found, "zonemta")} == {7}
    assert any(one.header("feed") == "heartbeat" for one in found)
    for hidden in (PASSWORD, TOKEN, "tmp@example.net", "supp@example.net", "alice"):
        assert hidden not in text + repr(found) + repr(page.samples)


def test_a_hundred_nodes_of_one_cluster_are_polled_by_one_process(
    broker: str, tmp_path: Path
) -> None:
    api = ZonemtaApi()
    api.broken = {"mta7"}
    names = [f"mta{number}" for number in range(100)]
    with serving(api.app()) as server:
        urls = {name: f"{server.url}/{name}" for name in names}
        urls["away"] = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        nodes = [{"name": name, "url": url, "interval": "5s"} for name, url in urls.items()]
        with stand(broker, tmp_path, **sections(nodes)) as st, agent_of(st) as agent:
            page = agent.wait_for_up(99, down=2)
            assert page.values("mail_zonemta_queue_messages", state="deferred", zone="default") == [
                7
            ]
            assert len(page.values("mail_zonemta_connection_pool_size")) == 99
            assert page.values("mailstream_up", origin="mta7") == [0]
            lint(agent)
            api.broken = set()
            agent.wait_for_up(100, down=1)
            wait_until(
                lambda: min(api.asked[name, "/counter/zone/"] for name in names) >= 2,
                "each is asked again",
                within_s=60,
            )


def lint(agent: NodeAgent) -> None:
    answer = agent.get("/metrics")
    assert answer is not None
    done = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=answer[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "", 0)


def test_refused_commands_of_a_mongodb_are_states_and_a_dead_one_has_no_series(
    broker: str, tmp_path: Path
) -> None:
    alone = Mongod(
        {
            "serverStatus": refusal(13, "Unauthorized"),
            "replSetGetStatus": refusal(76, "NoReplicationEnabled"),
        }
    )
    options = {"name": "db1", "zonemta_database": "zone-mta", "interval": "1s"}
    with mongod_kit.serving(alone):
        nodes = sections(mongodb=[options | {"uri": alone.uri}])
        with stand(broker, tmp_path, **nodes) as st, agent_of(st) as agent:
            page = agent.wait_for_up(1)
            told = [
                (one.labels["command"], one.labels["state"])
                for one in page.samples
                if one.name == "mail_mongodb_command_state" and one.value
            ]
            assert sorted(told) == [
                ("aggregate", "no_such_command"),
                ("replSetGetStatus", "no_replica_set"),
                ("serverStatus", "not_authorized"),
            ]
            alone.answers["serverStatus"] = refusal(18, "AuthenticationFailed")
            page = agent.wait_for_up(0, down=1)
            assert not [one for one in page.samples if one.name.startswith("mail_")]
            alone.answers["serverStatus"] = MONGODB["server_status"]
            agent.wait_for_up(1)


def test_a_wrong_password_and_a_wrong_token_are_down_and_said_without_either(
    broker: str, tmp_path: Path, redis: int
) -> None:
    with serving(WildduckApi(TOKEN).app()) as server:
        nodes = sections(
            redis=[{"address": f"127.0.0.1:{redis}", "password": "wrong-5ecret"}],
            wildduck=[{"url": server.url, "token": "wrong-5ecret"}],
        )
        with stand(broker, tmp_path, **nodes) as st, agent_of(st) as agent:
            agent.wait_for_up(0, down=2)
            health = agent.get("/health")
            assert health is not None
            downs = {one["source"]: one["detail"] for one in json.loads(health[1])["down"]}
            assert "status 403" in downs["wildduck"]
            assert set(downs) == {"redis", "wildduck"}
            assert "5ecret" not in agent.said() + health[1]


def test_a_wildduck_that_is_unwell_or_has_metrics_says_so(broker: str, tmp_path: Path) -> None:
    api = WildduckApi()
    api.healthy = False
    api.metrics = "# TYPE wildduck_tasks gauge\nwildduck_tasks 4\n"
    with serving(api.app()) as server:
        nodes = sections(wildduck=[{"url": server.url}])
        with stand(broker, tmp_path, **nodes) as st, agent_of(st) as agent:
            page = agent.wait_for_up(1)
            assert page.values("mail_wildduck_healthy") == [0]
            assert page.values("mail_wildduck_tasks", node="host1") == [4]


def test_observations_posted_to_ingest_arrive_and_the_agent_needs_no_kafka(
    broker: str, tmp_path: Path
) -> None:
    keys = [{"name": "agent1", "key": "agent-key", "sources": ["nodes"]}]
    ingest = {"listen": "127.0.0.1:0", "api_keys": keys}
    with stand(broker, tmp_path / "ingest", ingest=ingest) as st:
        url = f"http://{st.ingest().address()}"
        alone = Stand("unused:1", tmp_path / "agent")
        post_to = {"url": url, "key": "agent-key"}
        settings = sections(folders=[{"name": "q", "path": str(tmp_path)}], post_to=post_to)
        settings["nodes"]["system_interval"] = "1s"
        settings |= {"data_dir": str(alone.folder), "metrics": {"listen": "127.0.0.1:0"}}
        alone.config.write_text(json.dumps(settings))
        with agent_of(alone) as agent:

            def acknowledged() -> float:
                text = st.ingest().get("/metrics")
                assert text is not None
                page = Page([text[1]])
                told = {"source": "nodes", "origin": "agent1"}
                assert sum(page.values("mailstream_sender_missing_events_total", **told)) == 0
                if not page.values("mailstream_last_heartbeat_timestamp_seconds", **told):
                    return 0
                return page.total("mailstream_ingest_observations_total", **told)

            wait_until(lambda: acknowledged() >= 3, "observations arrive", within_s=40)
            assert agent.stop() == 0
        found = node_records(st)
    assert len(values_of(found, "folder")) >= 3
    assert {one.header("origin") for one in found} == {"agent1"}
