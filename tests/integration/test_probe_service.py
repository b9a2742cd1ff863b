"""The probe as a process before a real Postfix, a real Dovecot and the real broker."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mailstream.ports import free_port
from tests.kit.kafka_read import Read, read_topics
from tests.kit.mail_target import MailTarget, mail_target
from tests.kit.probe_process import (
    API_KEY,
    HOST,
    PREFIX,
    WRONG,
    Probe,
    alone,
    content,
)
from tests.kit.processes import ROOT, mailstream, wait_until
from tests.kit.programs import program
from tests.kit.stand import Stand, stand

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def target() -> Iterator[MailTarget]:
    with mail_target() as target:
        yield target


def raw(st: Stand) -> list[Read]:
    return asyncio.run(read_topics(st.bootstrap, [st.topic("raw.probe")], st.partitions))


def probe_of(st: Stand, folder: Path, tree: Mapping[str, Any]) -> Probe:
    return Probe(folder, st.config, tree)


def test_routes_are_probed_shown_and_written_and_no_secret_shows_anywhere(
    broker: str, tmp_path: Path, target: MailTarget
) -> None:
    section = {"config": "config.yaml"}
    with stand(broker, tmp_path, probe=section) as st:
        probe = probe_of(st, tmp_path, content(target))
        try:
            probe.listening()
            for route in ("a-to-b", "probe-b→probe-a"):
                probe.rounds(2, "inbox", route=route)
            probe.rounds(1, "junk", route="to-junk")
            probe.rounds(2, "send_failed", route="locked-out")
            page = probe.page()
            assert probe.shown("receive_success", route="a-to-b") == 1
            assert probe.shown("found_in_folder", route="to-junk", folder="Junk") == 1
            assert probe.shown("receive_success", route="locked-out") == 0
            assert probe.shown("roundtrip_seconds", route="locked-out") is None
            assert (probe.shown("errors_by_class_total", route="locked-out") or 0) >= 2
            days = probe.shown("tls_cert_expiry_days_remaining", route="a-to-b", endpoint="imap")
            assert days is not None
            assert 28 < days <= 30
            errors = probe.ask("/errors", X_API_Key=API_KEY)[1]
            (error,) = json.loads(errors)["errors"]
            assert (error["route"], error["class"], error["phase"]) == (
                "locked-out",
                "auth",
                "auth",
            )
            info, version = probe.ask("/info")[1], probe.ask("/version")[1]
            health = probe.ask("/health")[1]
            check = [program("promtool"), "check", "metrics"]
            told = subprocess.run(check, input=page, capture_output=True, text=True, check=False)
            complaints = [line for line in told.stderr.splitlines() if "mailstream" not in line]
            # The exporter's own names, kept.
            kept = "mx_records_total", "tls_cert_expiry_days_remaining"
            assert all(any(name in line for name in kept) for line in complaints), complaints
            assert probe.stop() == 0
        finally:
            probe.end()
        found = raw(st)
        outcomes = Counter(
            (json.loads(one.value)["route"], json.loads(one.value)["outcome"]) for one in found
        )
        assert outcomes["a-to-b", "inbox"] >= 2
        assert outcomes["to-junk", "junk"] >= 1
        assert outcomes["locked-out", "send_failed"] >= 2
        assert len({one.header("id") for one in found}) == len(found)
        assert {one.header("origin") for one in found} == {"here"}
        assert {one.header("source") for one in found} == {"probe"}
        assert all(one.key == json.loads(one.value)["route"].encode() for one in found)
        refused = next(json.loads(one.value) for one in found if one.key == b"locked-out")
        assert refused["failed_phase"] == refused["error_class"] == "auth"
        assert refused["response_code"] == 535
        everything = "\n".join(
            [page, errors, info, version, health, probe.said(10**6), repr(found)]
        )
        for secret in ("5ecret", "pass-a", "pass-b"):
            assert secret not in everything
        assert "probe-a@" not in "\n".join([page, errors, repr(found)])


def test_who_may_ask_for_what(tmp_path: Path, target: MailTarget) -> None:
    config = alone(tmp_path)
    probe = Probe(tmp_path, config, content(target))
    try:
        probe.listening()
        assert probe.ask("/metrics")[0] == 401
        wrong = base64.b64encode(b"prom:nothing").decode()
        assert probe.ask("/metrics", Authorization=f"Basic {wrong}")[0] == 401
        assert probe.ask("/metrics", Authorization="Basic %%%")[0] == 401
        assert probe.ask("/errors")[0] == 401
        assert probe.ask("/reload", method="POST")[0] == 401
        assert probe.ask("/reload", method="POST", X_API_Key="x")[0] == 401
        assert probe.ask("/reload")[0] == 405
        assert probe.ask("/nothing")[0] == 404
        assert probe.ask("/health", Host="attacker.example")[0] == 403
        info = json.loads(probe.ask("/info")[1])
        status = probe.file.stat()
        assert info["path"] == str(probe.file)
        assert (info["mtime_ns"], info["size"]) == (status.st_mtime_ns, status.st_size)
        assert info["tests"][1] == {"name": "probe-b→probe-a", "from": "probe-b", "to": "probe-a"}
        # Kafka is away, and its own page is right all the same.
        probe.rounds(1, "inbox", route="a-to-b")
        assert json.loads(probe.ask("/health")[1])["kafka"] == "away"
        assert probe.ask("/reload", method="POST", X_API_Key=API_KEY)[0] == 200
        env = tmp_path / ".env"
        env.write_text(env.read_text().replace(f"API_KEY={API_KEY}\n", ""))
        wait_until(
            lambda: probe.ask("/reload", method="POST", X_API_Key=API_KEY)[0] == 403,
            "without a key nobody may reload",
            within_s=20,
        )
    finally:
        probe.end()


def test_a_change_of_the_file_is_taken_and_a_broken_one_is_not(
    tmp_path: Path, target: MailTarget
) -> None:
    config = alone(tmp_path)
    tree = content(target)
    probe = Probe(tmp_path, config, tree)
    try:
        probe.listening()
        probe.rounds(1, "inbox", route="a-to-b")
        probe.file.write_text("tests: [{from: nobody")
        wait_until(
            lambda: f"{PREFIX}config_last_reload_successful 0.0" in probe.page(),
            "the broken file is told",
            within_s=20,
        )
        assert json.loads(probe.ask("/info")[1])["in_use"] is False
        assert "the old one stays in use" in probe.said()
        status, answer = probe.ask("/reload", method="POST", X_API_Key=API_KEY)
        assert status == 400
        assert "line 1" in answer
        before = probe.shown("outcomes_total", route="a-to-b", outcome="inbox") or 0
        probe.rounds(int(before) + 2, "inbox", route="a-to-b")
        tree["tests"] = [{"name": "only", "from": "probe-a", "to": "probe-b"}]
        probe.file.write_text(json.dumps(tree))
        probe.rounds(1, "inbox", route="only")
        assert 'route="a-to-b"' not in probe.page()
        assert f"{PREFIX}config_last_reload_successful 1.0" in probe.page()
    finally:
        probe.end()


def test_outcomes_wait_on_disk_while_kafka_is_away_even_if_the_probe_is_killed(
    broker: str, tmp_path: Path, target: MailTarget
) -> None:
    with stand(broker, tmp_path, probe={"config": "config.yaml"}) as st:
        settings = json.loads(st.config.read_text())
        away = {**settings, "kafka": {"bootstrap_servers": f"{HOST}:{free_port(HOST)}"}}
        st.config.write_text(json.dumps(away))
        probe = probe_of(st, tmp_path, content(target))
        try:
            probe.listening()
            probe.rounds(3, "inbox", route="a-to-b")
            wait_until(
                lambda: json.loads(probe.ask("/health")[1])["spool_records"] >= 3,
                "spooled",
                within_s=30,
            )
            held = json.loads(probe.ask("/health")[1])["spool_records"]
            probe.kill()
            st.config.write_text(json.dumps(settings))
            probe.start()
            wait_until(lambda: len(raw(st)) > held, "all that waited is written", within_s=60)
            assert probe.stop() == 0
        finally:
            probe.end()
        tokens = [json.loads(one.value)["token"] for one in raw(st) if one.key == b"a-to-b"]
        assert len(set(tokens)) >= 3


def test_a_server_that_hangs_delays_no_other_route(tmp_path: Path, target: MailTarget) -> None:
    config = alone(tmp_path)
    tree = content(target)
    with socket.create_server((HOST, 0), backlog=128) as silent:
        port = silent.getsockname()[1]
        hung = {
            part: {"host": HOST, "port": port, "username": "h@example.test"}
            for part in ("smtp", "imap")
        }
        tree["accounts"]["hung"] = hung
        tree["tests"] += [{"name": f"hung-{n}", "from": "hung", "to": "probe-b"} for n in range(20)]
        tree["tests"] += [{"name": f"deaf-{n}", "from": "probe-a", "to": "hung"} for n in range(20)]
        probe = Probe(tmp_path, config, tree)
        try:
            probe.listening()
            probe.rounds(3, "inbox", route="a-to-b")
            assert probe.shown("outcomes_total", route="hung-0", outcome="send_failed") == 0
            assert probe.shown("rounds_skipped_total", route="a-to-b") == 0
            assert probe.stop() == 0
        finally:
            probe.end()


def environment(folder: Path, target: MailTarget) -> dict[str, str]:
    """Write the exporter's two files alone, and return the environment of who uses them."""
    (folder / "config.yaml").write_text(json.dumps(content(target)))
    (folder / ".env").write_text("PROBE_A_PASS=pass-a\nPROBE_B_PASS=pass-b\n")
    return {**os.environ, "CONFIG_PATH": str(folder / "config.yaml"), "PYTHONPATH": str(ROOT)}


def once(folder: Path, target: MailTarget, *routes: str) -> subprocess.CompletedProcess[str]:
    names = [word for route in routes for word in ("--route", route)]
    return subprocess.run(
        mailstream("probe", "once", *names),
        env=environment(folder, target),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_round_in_lines_with_an_exit_code(tmp_path: Path, target: MailTarget) -> None:
    good = once(tmp_path, target, "a-to-b")
    assert good.returncode == 0, good.stderr
    phases = [line.split()[1] for line in good.stdout.splitlines() if line.endswith(" ms")]
    expected = (
        "dns connect tls auth mail rcpt data imap_dns imap_connect imap_tls imap_auth found verify"
    )
    assert phases == expected.split()
    assert good.stdout.splitlines()[-1].startswith("a-to-b inbox after ")
    bad = once(tmp_path, target, "locked-out", "to-junk")
    assert bad.returncode == 1
    assert "locked-out send_failed: auth: auth: 535" in bad.stdout
    assert "to-junk junk after" in bad.stdout
    assert WRONG not in bad.stdout + bad.stderr
    unknown = once(tmp_path, target, "nowhere")
    assert unknown.returncode == 2
    assert "there is no route nowhere; there are a-to-b" in unknown.stderr


def test_one_round_on_a_terminal_is_a_table_of_phases(tmp_path: Path, target: MailTarget) -> None:
    screen, terminal = pty.openpty()
    command = mailstream("probe", "once", "--route", "a-to-b")
    running = subprocess.Popen(
        command,
        env={**environment(tmp_path, target), "TERM": "xterm", "COLUMNS": "100"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(screen, 65536):
            shown += part
    except OSError:  # a terminal's way to say that its last writer is gone
        pass
    finally:
        os.close(screen)
    assert running.wait(60) == 0
    text = shown.decode()
    for word in ("imap_auth", "until the mail was seen", "verify", "inbox after", "certificate"):
        assert word in text


def test_the_exporter_s_own_files_are_enough(tmp_path: Path, target: MailTarget) -> None:
    variables = environment(tmp_path, target)
    command = [sys.executable, "-m", "mailstream", "produce", "probe"]
    with (tmp_path / "said").open("wb") as said:
        running = subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=said, stderr=said)
    told = tmp_path / ".mailstream" / "run" / "probe.json"
    try:
        wait_until(told.exists, "it serves", within_s=60)
        url = f"http://{json.loads(told.read_text())['address']}/metrics"

        def arrived() -> bool:
            with urllib.request.urlopen(url, timeout=10) as answer:
                page = answer.read().decode()
            return (
                f'{PREFIX}receive_success{{from="probe-a",route="a-to-b",to="probe-b"}} 1.0' in page
            )

        wait_until(arrived, "a mail arrived", within_s=60)
    finally:
        running.terminate()
        assert running.wait(40) == 0
    assert "no Kafka is configured" in (tmp_path / "said").read_text()


def test_outcomes_become_events_and_families_of_the_worker(
    broker: str, tmp_path: Path, target: MailTarget
) -> None:
    with stand(broker, tmp_path, probe={"config": "config.yaml"}) as st:
        worker, probe = st.worker(), probe_of(st, tmp_path, content(target))
        try:
            probe.listening()
            probe.rounds(1, "inbox", route="a-to-b")
            probe.rounds(1, "send_failed", route="locked-out")
            st.wait_until_ready()

            def counted(route: str, outcome: str) -> bool:
                wanted = f'route="{route}"', f'outcome="{outcome}"', 'origin="here"'
                return any(
                    line.startswith("mail_route_probes{") and all(one in line for one in wanted)
                    for line in (worker.metrics() or "").splitlines()
                )

            wait_until(lambda: counted("a-to-b", "inbox"), "arrivals are counted", within_s=60)
            wait_until(lambda: counted("locked-out", "send_failed"), "failures too", within_s=60)
            assert probe.stop() == 0
        finally:
            probe.end()
        events = {one["event_id"]: one for one in st.events() if one["event_type"] == "probe"}
        written = {one.header("id"): json.loads(one.value) for one in raw(st)}
        assert set(events) <= set(written)
        assert all(events[key]["outcome"] == written[key]["outcome"] for key in events)
        assert {one["origin"] for one in events.values()} == {"here"}
