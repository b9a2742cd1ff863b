"""The local broker: one per data folder, with data that survives every kind of end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from mailstream.local_kafka import HOST, LocalKafka, low_disk, running_bootstrap
from pipeline.core.errors import ConfigError, MailstreamError
from tests.kit.kafka_admin import admin_of

pytestmark = pytest.mark.integration

TOPIC = "kept"


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    kafka = LocalKafka(tmp_path, port=0, heap="256m")
    yield kafka
    kafka.stop()


def pid_of(kafka: LocalKafka) -> int:
    pid = kafka.status().pid
    assert pid is not None
    return pid


async def write(bootstrap: str, value: bytes) -> None:
    async with admin_of(bootstrap) as admin:
        if TOPIC not in await admin.list_topics():
            await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(TOPIC, value)


async def read(bootstrap: str, count: int) -> list[bytes | None]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await consumer.getone()).value for _ in range(count)]


def test_records_and_address_survive_a_stop_and_a_kill(kafka: LocalKafka, tmp_path: Path) -> None:
    first = kafka.start()
    asyncio.run(write(first, b"before the stop"))
    assert kafka.stop()
    assert running_bootstrap(tmp_path) is None
    assert not kafka.stop()

    assert kafka.start() == first
    asyncio.run(write(first, b"before the kill"))
    os.kill(pid_of(kafka), signal.SIGKILL)

    # Another object, as in another process: all it knows is in the folder.
    again = LocalKafka(tmp_path, port=0, heap="256m")
    try:
        assert again.start() == first
        assert running_bootstrap(tmp_path) == first
        assert asyncio.run(read(first, 2)) == [b"before the stop", b"before the kill"]
    finally:
        again.stop()


def test_a_second_start_on_one_folder_is_refused(kafka: LocalKafka, tmp_path: Path) -> None:
    bootstrap = kafka.start()
    pid = pid_of(kafka)
    with pytest.raises(ConfigError, match=f"process {pid} at {bootstrap}"):
        LocalKafka(tmp_path, port=0).start()
    assert running_bootstrap(tmp_path) == bootstrap
    assert os.getsid(pid) == pid  # of its own session: Ctrl-C in our terminal passes it by


def test_a_port_that_is_taken_is_avoided_unless_asked_for(
    kafka: LocalKafka, tmp_path: Path
) -> None:
    bootstrap = kafka.start()
    kafka.stop()
    with socket.create_server((HOST, int(bootstrap.rpartition(":")[2]))) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of {HOST} is taken"):
            LocalKafka(tmp_path, port=port).start()
        assert kafka.start() != bootstrap


def test_a_broker_that_cannot_start_says_why_and_leaves_no_process(
    kafka: LocalKafka, tmp_path: Path
) -> None:
    log = tmp_path / "kafka" / "log"
    log.mkdir(parents=True)
    (log / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=other\n")
    with pytest.raises(MailstreamError, match=r"ended while starting \(exit 1\).*node"):
        kafka.start()
    assert not kafka.status().running
    assert kafka.status().pid is None


def test_stop_ends_no_process_that_only_has_the_number(kafka: LocalKafka, tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        record = {"pid": other.pid, "identity": "of an earlier one", "bootstrap": f"{HOST}:1"}
        (tmp_path / "kafka" / "broker.json").write_text(json.dumps(record))
        assert running_bootstrap(tmp_path) is None
        assert not kafka.stop()
        assert other.poll() is None


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"pid": null}', "\0"])
def test_a_record_that_is_none_means_that_nothing_runs(tmp_path: Path, record: str) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "broker.json").write_text(record)
    assert running_bootstrap(tmp_path) is None
    assert not LocalKafka(tmp_path).status().running


def test_the_free_share_of_a_disk_is_told_only_when_it_is_low(tmp_path: Path) -> None:
    share = low_disk(tmp_path)
    assert share is None or 0 <= share < 0.1


SESSION = """
import sys
from tests.kit.broker import session_broker
with session_broker() as bootstrap:
    print(bootstrap, flush=True)
    sys.stdin.read()
"""


def test_the_broker_of_a_killed_test_session_ends_too() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP"}
    with subprocess.Popen(
        [sys.executable, "-c", SESSION],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    ) as session:
        assert session.stdout is not None
        host, _, port = session.stdout.readline().strip().rpartition(":")
        with socket.create_connection((host, int(port))) as connection:
            session.kill()
            # The end of the broker is the end of its connections, in whichever form it arrives.
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
