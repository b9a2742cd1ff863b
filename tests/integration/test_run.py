"""``mailstream run`` as its user meets it: real processes, a real broker, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailstream.local_kafka import LocalKafka
from mailstream.ports import free_port
from mailstream.processes import identity
from tests.kit.postgres import Database
from tests.kit.processes import ANY_GELF, Service, fetch, mailstream, wait_until
from tests.kit.scrape import Page

pytestmark = pytest.mark.integration

READY_S = 60.0
SHOWN_S = 30.0


class Installation(Service):
    """One ``mailstream run`` on a folder of its own, with any free ports."""

    def __init__(
        self, folder: Path, *options: str, command: str = "run", more: dict[str, Any] | None = None
    ) -> None:
        self.folder = folder
        config = folder / "mailstream.yaml"
        sections: dict[str, Any] = {
            "data_dir": str(folder),
            "ingest": {"listen": "127.0.0.1:0"},
            "metrics": {"listen": "127.0.0.1:0"},
            "gelf": ANY_GELF,
            "view": {"listen": "127.0.0.1:0"},
        }
        config.write_text(json.dumps(sections | (more or {})))
        super().__init__("run", mailstream(command, "--config", config, *options), folder)

    def start_and_wait(self) -> None:
        """Start it and wait until it is ready."""
        self.start()
        wait_until(self._announced_or_ended, "the run is ready", within_s=READY_S)
        assert self.running, self.said()

    def _announced_or_ended(self) -> bool:
        return self.address() is not None or not self.running

    def parts(self) -> dict[str, int]:
        """Return the process id of each part, the broker included."""
        record = json.loads((self.folder / "run" / "parts").read_text())
        return {name: pid for name, (pid, _) in record.items()}

    def part_address(self, name: str) -> str:
        """Return where a part listens."""
        told = json.loads((self.folder / "run" / f"{name}.json").read_text())
        return str(told["address"])

    def post(self, user: str, count: int) -> None:
        """Post *count* events of *user*, and see each accepted."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        events = [
            {
                "event_id": uuid.uuid4().hex,
                "timestamp": now,
                "event_type": "delivered",
                "message_id": f"<{number}@example.com>",
                "from_user": user,
                "to_domain": "gmail.com",
                "sending_ip": "203.0.113.7",
            }
            for number in range(count)
        ]
        request = urllib.request.Request(
            f"http://{self.part_address('ingest')}/api/v1/email-events/batch",
            json.dumps({"events": events}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 202
            assert json.load(answer)["accepted"] == count

    def shown(self, user: str) -> float:
        """Return how many events of *user* the workers show in the last hour."""
        workers = [name for name in self.parts() if name.startswith("worker-")]
        answers = [fetch(f"http://{self.part_address(name)}/metrics") for name in workers]
        page = Page(answer[1] for answer in answers if answer is not None)
        return page.total("mail_user_events", window="1h", user=user, event_type="delivered")

    def wait_until_shown(self, user: str, count: int) -> None:
        """Wait until the workers show *count* events of *user*."""
        wait_until(lambda: self.shown(user) == count, f"{count} events of {user}", within_s=SHOWN_S)

    def page(self, name: str) -> Page:
        """Return what a part shows at ``/metrics``; nothing if it does not answer."""
        answer = fetch(f"http://{self.part_address(name)}/metrics")
        return Page(() if answer is None else (answer[1],))

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._signal(signal.SIGINT)

    def clean_up(self) -> None:
        """End whatever is left, when a test is over."""
        self.end()
        LocalKafka(self.folder).stop()


@contextmanager
def installation(folder: Path, *options: str, **demo: Any) -> Iterator[Installation]:
    made = Installation(folder, *options, **demo)
    try:
        yield made
    finally:
        made.clean_up()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("run"), "--workers", "2") as made:
        made.start_and_wait()
        yield made


def alive(pids: dict[str, int]) -> list[str]:
    return [name for name, pid in pids.items() if identity(pid) is not None]


def test_a_posted_event_shows_in_the_metrics_of_one_of_the_workers(running: Installation) -> None:
    running.post("alice@example.com", 3)
    running.wait_until_shown("alice@example.com", 3)


def test_it_tells_where_everything_is_and_how_to_post_a_first_event(running: Installation) -> None:
    said = running.said(100_000)
    assert f"data: {running.folder}" in said
    assert f"ingest: http://{running.address()}" in said
    assert f"worker-2: http://{running.part_address('worker-2')}/metrics" in said
    assert f"curl -sS http://{running.address()}/api/v1/email-events" in said
    pages = (f"http://{running.part_address(f'worker-{n}')}/metrics" for n in (1, 2))
    assert f"curl -sS {' '.join(pages)} | grep mail_user_events" in said
    assert "ready in " in said


def test_a_status_line_comes_every_few_seconds(running: Installation) -> None:
    wait_until(
        lambda: running.said(100_000).count(" events/s | lag ") >= 2,
        "two status lines",
        within_s=SHOWN_S,
    )


def test_workers_tell_each_other_s_addresses(running: Installation) -> None:
    answer = fetch(f"http://{running.part_address('worker-1')}/workers")
    assert answer is not None
    for name in ("worker-1", "worker-2"):
        assert running.part_address(name) in answer[1]


@pytest.mark.parametrize("name", ["worker-2", "ingest"])
def test_a_part_that_is_killed_comes_back_and_no_event_is_lost(
    running: Installation, name: str
) -> None:
    user = f"{name}@example.com"
    running.post(user, 5)
    before = running.parts()[name]
    subprocess.run(["kill", "-KILL", str(before)], check=True)
    wait_until(lambda: running.parts()[name] != before, f"{name} is back", within_s=READY_S)
    wait_until(
        lambda: fetch(f"http://{running.part_address('ingest')}/health"),
        "ingest answers",
        within_s=READY_S,
    )
    running.wait_until_shown(user, 5)
    assert f"{name} was killed by SIGKILL" in running.said(100_000)
    wait_until(
        lambda: running.address() == running.part_address("ingest"),
        "the run announces where ingest is now",
        within_s=READY_S,
    )


def test_a_broker_that_is_killed_comes_back_and_no_event_is_lost(running: Installation) -> None:
    running.post("carol@example.com", 4)
    before = running.parts()["kafka"]
    os.kill(before, signal.SIGKILL)
    wait_until(
        lambda: "the local Kafka broker is back" in running.said(100_000),
        "the broker is back",
        within_s=READY_S,
    )
    assert running.parts()["kafka"] != before
    running.wait_until_shown("carol@example.com", 4)
    running.post("carol@example.com", 2)
    running.wait_until_shown("carol@example.com", 6)


def test_a_second_run_on_the_folder_is_refused_in_one_sentence(running: Installation) -> None:
    command = mailstream("run", "--config", running.folder / "mailstream.yaml")
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_S)
    assert second.returncode == 2
    [sentence] = second.stderr.splitlines()
    assert f"runs on {running.folder} already (process {running.pid})" in sentence


def test_the_broker_of_a_run_is_not_stopped_under_it(running: Installation) -> None:
    before = running.parts()["kafka"]
    command = mailstream("kafka", "stop", "--config", running.folder / "mailstream.yaml")
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_S)
    assert refused.returncode == 2
    [sentence] = refused.stderr.splitlines()
    assert f"runs on {running.folder} already (process {running.pid}): stop it first" in sentence
    assert alive({"kafka": before}) == ["kafka"]


def test_a_second_ctrl_c_ends_even_what_does_not_answer(running: Installation) -> None:
    parts = running.parts()
    os.kill(parts["worker-2"], signal.SIGSTOP)
    running.interrupt()
    wait_until(lambda: "stopping ingest" in running.said(), "it stops", within_s=READY_S)
    running.interrupt()
    assert running._wait(READY_S) == 1
    assert alive(parts) == []


def test_a_taken_port_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = tmp_path / "mailstream.yaml"
        config.write_text(
            json.dumps({"ingest": {"listen": address}, "gelf": ANY_GELF, "view": None})
        )
        command = mailstream("run", "--config", config)
        refused = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=READY_S
        )
    assert refused.returncode == 2
    [sentence] = refused.stderr.splitlines()
    assert f"ingest.listen: {address} is taken" in sentence
    assert not (tmp_path / ".mailstream" / "kafka").exists()


def test_where_nothing_was_started_nothing_is_stopped(tmp_path: Path) -> None:
    config, no_folder = tmp_path / "mailstream.yaml", tmp_path / "file"
    anywhere = {"listen": "127.0.0.1:0"}
    config.write_text(
        json.dumps({"ingest": anywhere, "metrics": anywhere, "gelf": ANY_GELF, "view": None})
    )
    no_folder.write_text("")
    ran = subprocess.run(
        mailstream("run", "--config", config),
        env={**os.environ, "XDG_CACHE_HOME": str(no_folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=READY_S,
    )
    assert ran.returncode == 2
    [sentence] = ran.stderr.splitlines()
    assert sentence.startswith("mailstream: cannot keep Kafka's jars in ")
    assert "stop" not in ran.stdout


def test_ctrl_c_stops_all_in_order_and_a_restart_shows_the_same_numbers(tmp_path: Path) -> None:
    with installation(tmp_path) as made:
        made.start()
        wait_until(lambda: "topics: " in made.said(), "the broker is up", within_s=READY_S)
        made.interrupt()
        assert made._wait(READY_S) == 0
        assert alive(made.parts()) == []

        made.start_and_wait()
        made.post("bob@example.com", 7)
        made.wait_until_shown("bob@example.com", 7)
        parts = made.parts()
        assert parts.keys() == {"kafka", "worker-1", "ingest", "gelf", "view"}
        made.interrupt()
        assert made._wait(READY_S) == 0
        assert alive(parts) == []
        assert made.address() is None

        made.start_and_wait()
        made.wait_until_shown("bob@example.com", 7)
        parts = made.parts()
        made.kill()
        wait_until(lambda: alive(parts) == ["kafka"], "the parts end", within_s=READY_S)

        made.start_and_wait()
        assert made.parts()["kafka"] == parts["kafka"]
        made.wait_until_shown("bob@example.com", 7)
        parts = made.parts()
        assert made.stop() == 0
        assert alive(parts) == []


def test_the_demo_posts_traffic_and_ends_with_its_duration(tmp_path: Path) -> None:
    with installation(tmp_path) as made:
        config = tmp_path / "mailstream.yaml"
        options = ("--rate", "200", "--duration", "3", "--seed", "5")
        shown = subprocess.run(
            mailstream("demo", "--config", config, *options),
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * READY_S,
        )
        assert shown.returncode == 0, shown.stdout + shown.stderr
        [over] = [line for line in shown.stdout.splitlines() if "the show is over" in line]
        accepted = int(over.partition("the show is over: ")[2].split()[0].replace(",", ""))
        assert accepted > 10  # the rate follows the time of day
        assert " 0 rejected" in over
        assert alive(made.parts()) == []


def test_the_demo_shows_every_source_that_is_on_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    anywhere = {"listen": "127.0.0.1:0"}
    web1 = {"name": "web1", "url": server, "token": "0123456789abcdef", "interval": "1s"}
    mta1 = {"name": "mta1", "url": f"{server}/mta1", "interval": "1s"}
    sections = {
        "cpanel": {**anywhere, "servers": [web1]},
        "nodes": {**anywhere, "name": "here"},
        "zonemta": {"nodes": [mta1]},
    }
    with installation(tmp_path, "--rate", "100", command="demo", more=sections) as made:
        made.start_and_wait()
        wait_until(
            lambda: all(
                made.page("worker-1").total("mail_events_total", source=source)
                for source in ("zonemta", "haraka", "cpanel", "wildduck")
            ),
            "events of every source",
            within_s=SHOWN_S,
        )
        logins = made.page("worker-1").total("mail_user_auth", window="1h", result="succeeded")
        assert logins > 0
        wait_until(
            lambda: all(
                made.page("nodes").total(metric)
                for metric in ("mail_zonemta_delivery_status_total", "mail_system_cpus")
            ),
            "the nodes",
            within_s=SHOWN_S,
        )
        said = made.said(100_000)
        assert "cPanel server web1 is polled" in said
        assert f"curl -sS http://{made.part_address('nodes')}/metrics" in said
        parts = made.parts()
        assert parts.keys() == {"kafka", "worker-1", "ingest", "gelf", "view", "cpanel", "nodes"}
        made.interrupt()
        assert made._wait(READY_S) == 0
        assert alive(parts) == []


def test_a_sink_of_the_configuration_runs_along(tmp_path: Path, database: Database) -> None:
    sinks = {"postgres": {"dsn": database.dsn, "listen": "127.0.0.1:0"}}
    with installation(tmp_path, more={"sinks": sinks}) as made:
        made.start_and_wait()
        made.post("carol@example.com", 5)
        wait_until(lambda: database.count("email_events") == 5, "all is stored", within_s=SHOWN_S)
        assert made.page("sink-postgres").total("mailstream_sink_rows_total") == 5
        assert made.stop() == 0
        assert "then the workers, then sink-postgres, then Kafka" in made.said()
        assert database.dsn not in made.said(1 << 20)
    assert database.rows('SELECT DISTINCT "user", provider FROM email_events') == [
        ("carol@example.com", "google")
    ]
