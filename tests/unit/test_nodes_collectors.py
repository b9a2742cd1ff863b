"""What collectors make of recorded answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import TransientError
from pipeline.core.timestamp import epoch_ms
from pipeline.kit.settings_nodes import WatchedProcess, WildduckTarget
from producers.http_api import StatusError
from producers.sources.nodes import mongodb, redis_info, system, wildduck, zone_queue, zonemta
from producers.sources.nodes.exposition import MAX_SAMPLES, shown_again
from producers.sources.nodes.folders import count_files
from producers.sources.nodes.processes import Process, Watch, fits
from producers.sources.nodes.samples import Sample, values
from tests.kit.http_server import serving
from tests.kit.node_programs import WildduckApi, sample

NOW = epoch_ms("2026-11-21T00:22:30Z")
API = sample("zonemta_api.json")
WILDDUCK = sample("wildduck.json")
MONGODB = sample("mongodb.json")


def body(answer: Any) -> bytes:
    return orjson.dumps(answer)


def test_the_queue_of_a_zonemta_is_counted_by_zone_and_state() -> None:
    queue = zonemta.queue_of(body(API["/counter/zone/"]))
    assert queue == {
        ("bounces", "active"): 0,
        ("default", "active"): 0,
        ("bounces", "deferred"): 0,
        ("default", "deferred"): 7,
    }
    created = zonemta.oldest_of(body(API["/queued/deferred/default"]), "")
    assert created == epoch_ms("2026-11-21T00:08:09.549Z")
    assert zonemta.oldest_of(body(API["/queued/queued/default"]), "") is None
    found = values(zonemta.queue_samples("main", queue, {"default": created}, NOW))
    assert found['mail_zonemta_queue_messages{cluster="main",state="deferred",zone="default"}'] == 7
    oldest = "mail_zonemta_queue_oldest_seconds"
    assert found[f'{oldest}{{cluster="main",zone="default"}}'] == pytest.approx(860.451)
    assert found[f'{oldest}{{cluster="main",zone="bounces"}}'] == 0


def test_more_zones_than_have_names_are_summed() -> None:
    entries = [{"key": f"z{number:03}", "value": 1} for number in range(zonemta.MAX_ZONES + 7)]
    queue = zonemta.queue_of(
        body({"active": {"entries": entries}, "deferred": {"entries": entries[:1]}})
    )
    assert len(queue) == zonemta.MAX_ZONES + 2
    assert queue[zonemta.OTHER, "active"] == 7
    assert sum(queue.values()) == zonemta.MAX_ZONES + 8


def test_addresses_that_zonemta_avoids_are_shown_by_domain_and_bounded() -> None:
    assert values(zonemta.blacklist_samples(body(API["/blacklist"]))) == {
        "mail_zonemta_blacklisted_pairs": 2,
        'mail_zonemta_blacklisted{domain="example.org",ip="127.0.0.2"}': 1,
        'mail_zonemta_blacklisted{domain="example.org",ip="127.0.0.3"}': 1,
    }
    many = [{"address": "192.0.2.1", "domain": f"d{number}.example"} for number in range(2000)]
    found = zonemta.blacklist_samples(body({"list": many * 2}))
    assert len(found) == zonemta.MAX_BLACKLISTED + 1
    assert found[0].value == 2000


def test_lists_of_zonemta_are_counted() -> None:
    assert values(zonemta.suppression_samples(body(API["/suppressionlist"]))) == {
        "mail_zonemta_suppressed": 1
    }
    skipped = {
        "a": body(API["/skipdomains/default"]),
        "b": body({"skipDomains": ["example.com", "example.net"]}),
    }
    assert values(zonemta.skipped_samples(skipped)) == {
        'mail_zonemta_skipped_domains{zone="a"}': 0,
        'mail_zonemta_skipped_domains{zone="b"}': 2,
    }


def test_zonemta_s_own_metrics_get_honest_names() -> None:
    page = sample("zonemta_metrics.txt")
    found = values(shown_again(page, "zonemta", zonemta.RENAMED))
    status = "mail_zonemta_delivery_status_total"
    assert found[f'{status}{{status="rejected",zone="default"}}'] == 6
    assert found[f'{status}{{status="delivered",zone="bounces"}}'] == 6
    assert found["mail_zonemta_message_drop_total"] == 2
    assert found["mail_zonemta_connection_pool_size"] == 0
    assert found['mail_zonemta_queue_size{type="deferred"}'] == 7
    assert found["mail_zonemta_blacklist_entries"] == 2
    assert found["mail_zonemta_process_cpu_user_seconds_total"] == 12.5
    assert found["mail_zonemta_nodejs_active_handles"] == 9
    assert found['mail_zonemta_nodejs_gc_duration_seconds_bucket{kind="minor",le="+Inf"}'] == 5
    assert "mail_zonemta_blacklisted" not in found


def test_a_page_of_metrics_is_bounded_and_foreign_names_and_addresses_stay_out() -> None:
    lines = [f'zonemta_x{{user="a@example.com",n="{number}"}} 1' for number in range(9000)]
    found = shown_again("\n".join(["foreign 1", *lines, ""]), "zonemta", {})
    assert len(found) == MAX_SAMPLES
    assert "@" not in repr([one.labels for one in found])
    assert "foreign" not in repr(found)
    with pytest.raises(TransientError):
        shown_again("zonemta_x{ 1\n", "zonemta", {})


@given(st.binary(max_size=60))
def test_any_answer_is_understood_or_refused(answer: bytes) -> None:
    calls = (
        lambda: zonemta.queue_of(answer),
        lambda: zonemta.oldest_of(answer, ""),
        lambda: zonemta.blacklist_samples(answer),
        lambda: zonemta.suppression_samples(answer),
        lambda: zonemta.skipped_samples({"z": answer}),
        lambda: wildduck.users_of(answer),
        lambda: shown_again("zonemta_" + answer.decode(errors="replace"), "zonemta", {}),
    )
    for call in calls:
        try:
            call()
        except TransientError:
            continue


def test_storage_of_users_adds_up_over_pages() -> None:
    page = wildduck.users_of(body({"total": 2, "nextCursor": False, "results": WILDDUCK["users"]}))
    storage = wildduck.Storage()
    storage.add(page)
    storage.add(page)
    assert values(storage.samples()) == {
        "mail_wildduck_storage_used_bytes": 8192,
        "mail_wildduck_storage_allowed_bytes": 4 << 30,
        "mail_wildduck_storage_users": 4,
        "mail_wildduck_users_blocked": 2,
    }


def test_a_cursor_that_wildduck_refuses_is_not_used_again() -> None:
    api = WildduckApi(users=600)
    api.refused_cursors = {"500"}

    async def look() -> dict[str, float]:
        target = wildduck.Wildduck(WildduckTarget(url=server.url), "host1")
        with pytest.raises(StatusError):
            await target.poll(1)
        api.refused_cursors = {"250"}
        with pytest.raises(StatusError):
            await target.poll(2)
        api.refused_cursors = set()
        found = values(await target.poll(3))
        await target.close()
        return found

    with serving(api.app()) as server:
        assert asyncio.run(look())["mail_wildduck_storage_users"] == 600


def test_the_status_of_a_mongodb_is_taken_as_far_as_it_goes() -> None:
    found = values(mongodb.status_samples(MONGODB["server_status"]))
    assert found["mail_mongodb_uptime_seconds"] == 88712
    assert found['mail_mongodb_connections{state="active"}'] == 3
    assert found['mail_mongodb_operations_total{type="delete"}'] == 184
    assert found["mail_mongodb_memory_resident_bytes"] == 141 << 20
    assert found["mail_mongodb_cache_dirty_bytes"] == 20480
    assert found['mail_mongodb_tickets_used{kind="write"}'] == 2
    assert found['mail_mongodb_lock_queue{kind="writers"}'] == 2
    assert found["mail_mongodb_is_primary"] == 1
    newer = {"queues": {"execution": {"read": {"out": 4, "available": 5}}}}
    assert values(mongodb.status_samples(newer)) == {
        'mail_mongodb_tickets_used{kind="read"}': 4,
        'mail_mongodb_tickets_available{kind="read"}': 5,
    }
    assert values(mongodb.status_samples(MONGODB["server_status_of_ferretdb"])) == {
        "mail_mongodb_uptime_seconds": pytest.approx(887.7, abs=0.1)
    }


def replica_set() -> dict[str, Any]:
    status: dict[str, Any] = orjson.loads(body(MONGODB["replica_set_status"]))
    for member in status["members"]:
        member["optimeDate"] = datetime.fromisoformat(member["optimeDate"])
    return status


def test_members_of_a_replica_set_lag_behind_its_primary() -> None:
    found = values(mongodb.replica_set_samples(replica_set()))
    lag, second = "mail_mongodb_member_lag_seconds", "db2.example.com:27017"
    assert found[f'{lag}{{member="{second}"}}'] == 4
    assert found[f'mail_mongodb_member_state{{member="{second}",state="SECONDARY"}}'] == 1
    assert found['mail_mongodb_member_up{member="db3.example.com:27017"}'] == 0
    assert found["mail_mongodb_primaries"] == 1
    status = replica_set()
    status["members"] = status["members"][1:]
    found = values(mongodb.replica_set_samples(status))
    assert found["mail_mongodb_primaries"] == 0
    assert not any(name.startswith(lag) for name in found)


def test_the_queue_in_the_database_is_counted_as_zonemta_does() -> None:
    now = datetime(2026, 11, 21, 0, 22, 30, tzinfo=UTC)
    groups = [
        {
            "_id": {"zone": "default", "deferred": True},
            "messages": 7,
            "oldest": now - timedelta(9),
            "older_300": 6,
            "older_3600": 5,
            "older_14400": 1,
            "older_86400": 1,
        },
        {
            "_id": {"zone": "default", "deferred": False},
            "messages": 2,
            "oldest": now,
            "older_300": 1,
        },
        {"_id": {"zone": "bulk"}, "messages": 1, "oldest": None},
    ]
    older = {
        f'mail_mongodb_queue_older_messages{{seconds="{seconds}",zone="{zone}"}}': count
        for zone, counts in (("default", (7, 5, 1, 1)), ("bulk", (0, 0, 0, 0)))
        for seconds, count in zip(zone_queue.AGES_S, counts, strict=True)
    }
    assert values(zone_queue.zone_samples(groups, now)) == older | {
        'mail_mongodb_queue_messages{state="deferred",zone="default"}': 7,
        'mail_mongodb_queue_messages{state="active",zone="default"}': 2,
        'mail_mongodb_queue_messages{state="active",zone="bulk"}': 1,
        'mail_mongodb_queue_oldest_seconds{zone="default"}': 9 * 86_400,
    }


def test_the_queue_in_the_database_is_counted_by_recipient_domain() -> None:
    groups: list[dict[str, Any]] = [
        {"_id": "example.org", "messages": 7},
        {"_id": None, "messages": 3},
    ]
    assert values(zone_queue.domain_samples(groups)) == {
        'mail_mongodb_queue_domain_messages{domain="example.org"}': 7
    }


def test_a_redis_is_told_by_its_info() -> None:
    found = values(redis_info.info_samples(redis_dictionary(sample("redis_info.txt"))))
    assert found["mail_redis_connected_clients"] == 8
    assert found["mail_redis_memory_resident_bytes"] == 12_394_496
    assert found["mail_redis_memory_fragmentation_ratio"] == 13.16
    assert found["mail_redis_commands_total"] == 38
    assert found["mail_redis_is_master"] == 1
    assert found["mail_redis_last_save_ok"] == 1
    assert found['mail_redis_keys{db="0"}'] == 5
    assert found['mail_redis_expiring_keys{db="0"}'] == 2
    assert "mail_redis_master_link_up" not in found
    replica = redis_info.info_samples({"role": "slave", "master_link_status": "down"})
    assert values(replica) == {"mail_redis_is_master": 0, "mail_redis_master_link_up": 0}


def redis_dictionary(text: str) -> dict[str, Any]:
    """Decode an answer to INFO as the client library does."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and "=" in value:
            pairs = (pair.split("=") for pair in value.split(","))
            found[key] = {name: int(number) for name, number in pairs}
        elif colon:
            try:
                found[key] = float(value) if "." in value else int(value)
            except ValueError:
                found[key] = value
    return found


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2710 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:2710 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 1 1
   2: 0100007F:D431 0100007F:2710 01 00000000:00000000 00:00000000 00000000     0        0 1 1
   3: 0100007F:2710 0100007F:D432 06 00000000:00000000 00:00000000 00000000     0        0 1 1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0019 00000000000000000000000000000000:0000 0A 0
   1: 0000000000000000FFFF00000100007F:2710 0000000000000000FFFF00000100007F:D433 01 0
"""


def test_established_connections_are_counted_by_the_port_that_is_listened_on() -> None:
    assert system.connections_by_port([TCP, TCP6]) == {10_000: 2, 25: 0}
    assert system.connections_by_port(["", "head\nshort line\n"]) == {}


def test_this_machine_can_be_looked_at() -> None:
    found = values(system.look())
    assert found["mail_system_memory_size_bytes"] > found["mail_system_memory_available_bytes"] > 0
    assert found['mail_system_cpu_seconds_total{mode="user"}'] > 0
    assert any(name.startswith("mail_system_network_receive_bytes_total") for name in found)


def test_files_in_a_folder_and_below_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("1", "a/2", "a/3"):
        (tmp_path / name).touch()
    assert count_files(tmp_path) == 3
    with pytest.raises(TransientError, match="No such file"):
        count_files(tmp_path / "gone")


def process(pid: int, started: float = 1.0, cpu_s: float = 0.0) -> Process:
    return Process(pid, "node", "node /opt/haraka/haraka.js", started, cpu_s, 1000)


def look(watch: Watch, *processes: Process) -> dict[str, float]:
    found: list[Sample] = list(watch.look(processes))
    return {name.partition("{")[0]: value for name, value in values(found).items()}


def test_a_program_is_found_by_name_or_by_its_command_line() -> None:
    assert fits(process(1), WatchedProcess(name="node"))
    assert not fits(process(1), WatchedProcess(name="haraka"))
    assert fits(process(1), WatchedProcess(name="haraka", match="haraka.js"))


def test_a_program_that_is_started_anew_shows_and_its_cpu_time_never_falls() -> None:
    watch = Watch(WatchedProcess(name="haraka", match="haraka.js"))
    prefix = "mail_system_process"
    first = look(watch, process(1, 1.0, 50.0), process(2, 2.0, 5.0))
    assert first[f"{prefix}_up"] == 1
    assert first["mail_system_processes"] == 2
    assert first[f"{prefix}_cpu_seconds_total"] == 0
    assert first[f"{prefix}_start_timestamp_seconds"] == 1
    assert (
        look(watch, process(1, 1.0, 53.0), process(2, 2.0, 6.0))[f"{prefix}_cpu_seconds_total"] == 4
    )
    child_ended = look(watch, process(1, 1.0, 54.0))
    assert child_ended[f"{prefix}_cpu_seconds_total"] == 5
    assert child_ended[f"{prefix}_restarts_total"] == 0
    gone = look(watch)
    assert (gone[f"{prefix}_up"], gone[f"{prefix}_restarts_total"]) == (0, 0)
    again = look(watch, process(1, 9.0, 2.0))
    assert again[f"{prefix}_restarts_total"] == 1
    assert again[f"{prefix}_cpu_seconds_total"] == 7
