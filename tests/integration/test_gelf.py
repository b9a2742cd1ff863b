"""GELF as its senders and an operator see it: the real services before the real broker."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import shlex
import socket
import ssl
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pygelf import GelfTcpHandler, GelfUdpHandler

from mailstream.ports import free_port
from tests.kit.gelf import npm_datagrams, numbered, sample
from tests.kit.kafka_read import Read, read_topics
from tests.kit.processes import Gelf, Service, mailstream, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand, stand
from tests.kit.wildduck import TOKEN, wildduck_api

pytestmark = pytest.mark.integration

RECEIVED = "mailstream_component_received_events_total"
SENT = "mailstream_component_sent_events_total"
ERRORS = "mailstream_component_errors_total"
DISCARDED = "mailstream_component_discarded_events_total"
HOST = "127.0.0.1"
ACCOUNT = "6b00e0e81af430f16da7f801"


def raw(st: Stand) -> list[Read]:
    """Return what is on the raw topic, waiting until all that was received is."""
    gelf = st.gelf()
    wait_until(lambda: settled(gelf), "everything received is written", within_s=30)
    return asyncio.run(read_topics(st.bootstrap, [st.topic("raw.gelf")], st.partitions))


def settled(gelf: Gelf) -> bool:
    return gelf.value(RECEIVED) == gelf.value(SENT) + gelf.value(DISCARDED)


def wait_for(st: Stand, received: int) -> None:
    gelf = st.gelf()
    wait_until(lambda: gelf.value(RECEIVED) >= received, "all is received", within_s=30)
    assert gelf.value(RECEIVED) == received


def send(st: Stand, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", st.gelf().port("udp")))


def connect(st: Stand) -> socket.socket:
    return socket.create_connection(("127.0.0.1", st.gelf().port("tcp")), timeout=30)


def send_in_vain(st: Stand, trust: ssl.SSLContext, text: bytes) -> None:
    """Send *text* over TLS until the other side closes, by an alert or without a word."""
    with (
        suppress(OSError),
        connect(st) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as sender,
    ):
        sender.sendall(text)
        assert sender.recv(1) == b""


@contextmanager
def logger(handler: logging.Handler) -> Iterator[logging.Logger]:
    made = logging.getLogger(f"{__name__}.{id(handler)}")
    made.propagate = False
    made.addHandler(handler)
    try:
        yield made
    finally:
        made.removeHandler(handler)
        handler.close()


def fields(message: dict[str, Any]) -> dict[str, Any]:
    """Return the additional fields of *message*, for a client that adds the rest."""
    return {name: value for name, value in message.items() if name.startswith("_")}


def test_every_way_in_leads_to_the_raw_topic(broker: str, tmp_path: Path) -> None:
    with stand(broker, tmp_path) as st:
        gelf, accepted = st.gelf(), sample("mta_accepted")
        udp, tcp = gelf.port("udp"), gelf.port("tcp")
        for sent, handler in enumerate(
            (
                GelfUdpHandler("127.0.0.1", udp, compress=True, **fields(accepted)),
                GelfUdpHandler(
                    "127.0.0.1", udp, compress=False, chunk_size=200, **fields(accepted)
                ),
                GelfTcpHandler("127.0.0.1", tcp, **fields(accepted)),
            ),
            1,
        ):
            with logger(handler) as log:
                log.warning("MTA [ACCEPTED] 1a1fb726424000f370.001")
            wait_for(st, sent)
        send(st, *npm_datagrams(), gzip.compress(json.dumps(sample("mta_bounced")).encode()))
        wait_for(st, 6)
        found = raw(st)
        assert [one.header("origin") for one in found] == ["127.0.0.1"] * 6
        # Three clients told of one delivery, so it is one event.
        assert len({one.header("id") for one in found}) == 4
        assert {one.header("source") for one in found} == {"gelf", "wildduck"}
        assert gelf.value("mailstream_gelf_kernel_dropped_datagrams_total") == 0


def test_every_metric_of_the_service_is_documented(broker: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    with stand(broker, tmp_path) as st:
        answer = st.gelf().get("/metrics")
        assert answer is not None
        shown = set(re.findall(r"^# TYPE (mailstream_(?:gelf|spool)\w+)", answer[1], re.MULTILINE))
        assert len(shown) > 8
        assert not shown - set(re.findall(r"`([^`\s]+)`", text))


def test_a_frame_may_come_in_pieces_and_the_last_one_may_lack_its_end(
    broker: str, tmp_path: Path
) -> None:
    with stand(broker, tmp_path) as st:
        texts = [json.dumps(message).encode() for message in numbered(3)]
        with connect(st) as sender:
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(texts[0]), 100):
                sender.sendall(texts[0][at : at + 100])
            sender.sendall(b"\0\0\n" + texts[1] + b"\0" + texts[2][:50])
            wait_for(st, 2)
            sender.sendall(texts[2][50:])
        wait_for(st, 3)
        assert len(raw(st)) == 3


def test_rubbish_is_counted_by_reason_and_stops_nothing(broker: str, tmp_path: Path) -> None:
    with stand(broker, tmp_path, gelf=any_gelf(max_message_bytes=2000, udp_host="mta7")) as st:
        good = json.dumps(sample("mta_accepted")).encode()
        bomb = zlib.compress(b'{"short_message":"' + b"x" * 1_000_000 + b'"}')
        send(st, b"", b"rubbish", good[:-5], bomb, b"\x1e\x0f\x01", json.dumps({}).encode())
        send(st, json.dumps(sample("quota_change")).encode(), b'{"short_message":"other"}', good)
        wait_for(st, 8)
        with connect(st) as sender:
            sender.sendall(b"{" + b"x" * 70_000)
            assert sender.recv(1) == b""  # a frame that is too long ends the connection
        with connect(st) as browser:
            browser.sendall(b"POST / HTTP/1.1\r\n\r\n\0" + good + b"\0")
            assert browser.recv(1) == b""
        (written,) = raw(st)
        assert json.loads(written.value)["host"] == "mta7"
        gelf = st.gelf()
        counted = {
            reason: gelf.value(DISCARDED, reason=reason)
            for reason in (
                "malformed",
                "too_large",
                "missing_field",
                "noise",
                "unknown_application",
            )
        }
        assert counted == {
            "malformed": 4,
            "too_large": 2,
            "missing_field": 1,
            "noise": 1,
            "unknown_application": 1,
        }
        assert gelf.value("mailstream_gelf_noise_total", kind="quota") == 1
        wait_until(
            lambda: gelf.value("mailstream_gelf_samples_total", result="written") == 3,
            "samples of what was text are dead letters",
            within_s=10,
        )
        dead = asyncio.run(read_topics(broker, [st.topic("dead")], st.partitions))
        errors = [(one.header("error") or "").partition(":")[0] for one in dead]
        assert sorted(errors) == ["malformed", "malformed", "missing_field"]
        wait_until(
            lambda: gelf.value("mailstream_gelf_chunks_lost_total", reason="invalid") == 1,
            "the chunk is counted",
            within_s=10,
        )


def any_gelf(**more: Any) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "udp": "127.0.0.1:0", "tcp": "127.0.0.1:0", **more}


def test_only_allowed_networks_are_heard_and_the_metrics_stay_readable_here(
    broker: str, tmp_path: Path
) -> None:
    with stand(broker, tmp_path, gelf=any_gelf(allow=["192.0.2.0/24"])) as st:
        send(st, json.dumps(sample("mta_accepted")).encode())
        with connect(st) as sender:
            assert sender.recv(1) == b""
        wait_until(
            lambda: st.gelf().value(DISCARDED, reason="not_allowed") == 1, "counted", within_s=10
        )
        assert raw(st) == []


def test_connections_are_bounded(broker: str, tmp_path: Path) -> None:
    with stand(broker, tmp_path, gelf=any_gelf(max_connections=1)) as st, connect(st) as first:
        text = json.dumps(sample("mta_accepted")).encode() + b"\0"
        first.sendall(text)
        wait_for(st, 1)
        with connect(st) as second:
            assert second.recv(1) == b""
        first.sendall(text)
        wait_for(st, 2)


def test_a_silent_connection_is_closed_unless_it_is_between_two_messages(
    broker: str, tmp_path: Path
) -> None:
    with stand(broker, tmp_path, gelf=any_gelf(idle_timeout="1s")) as st, connect(st) as quiet:
        text = json.dumps(sample("mta_accepted")).encode()
        quiet.sendall(text + b"\0\n")
        wait_for(st, 1)
        with connect(st) as mute, connect(st) as unended, connect(st) as broken:
            unended.sendall(text)
            broken.sendall(text[:-9])
            assert [one.recv(1) for one in (mute, unended, broken)] == [b"", b"", b""]
        assert st.gelf().value(ERRORS, reason="idle") == 3
        wait_for(st, 3)
        quiet.sendall(text + b"\0")
        wait_for(st, 4)
        assert len(raw(st)) == 3
        assert st.gelf().value(DISCARDED, reason="malformed") == 1


def test_connections_may_be_encrypted_and_clients_may_need_a_certificate(
    broker: str, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    named = f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}"
    subprocess.run(shlex.split(f"{made} {named}"), check=True, capture_output=True)
    tls = {"tcp_tls_cert": str(cert), "tcp_tls_key": str(key), "tcp_client_ca": str(cert)}
    with stand(broker, tmp_path / "data", gelf=any_gelf(**tls)) as st:
        text = json.dumps(sample("mta_accepted")).encode() + b"\0"
        trust = ssl.create_default_context(cafile=cert)
        send_in_vain(st, trust, text)
        trust.load_cert_chain(cert, key)
        with connect(st) as plain, trust.wrap_socket(plain, server_hostname=HOST) as sender:
            sender.sendall(text)
            wait_for(st, 1)
        assert len(raw(st)) == 1


def test_gelf_over_http_is_acknowledged_and_a_repeated_post_has_the_same_ids(
    broker: str, tmp_path: Path
) -> None:
    keys = [{"name": "mta1", "key": "a-key"}, {"name": "mx", "key": "b-key", "sources": ["haraka"]}]
    with stand(broker, tmp_path, ingest={"listen": "127.0.0.1:0", "api_keys": keys}) as st:
        login, noise = sample("imap_login_unknown_user"), sample("quota_change")
        lines = [json.dumps(one).encode() for one in (login, noise, login)]
        bulk = gzip.compress(b"\n".join([*lines, b"rubbish", b""]))
        headers = {"X-API-Key": "a-key", "Content-Type": "application/json"}
        with httpx.Client(base_url=f"http://{st.ingest().address()}", headers=headers) as http:
            for _ in range(2):
                answer = http.post("/gelf", content=bulk, headers={"Content-Encoding": "gzip"})
                assert answer.status_code == 202, answer.text
                assert answer.json()["accepted"] == 3
                assert [one["index"] for one in answer.json()["rejected"]] == [3]
            pretty = json.dumps(sample("mta_accepted"), indent=1)
            assert http.post("/gelf", content=pretty).json() == {"accepted": 1, "rejected": []}
            assert http.post("/gelf", content=b"rubbish").status_code == 400
            assert http.post("/gelf", content=b"{}\n" * 10_002).status_code == 413
            for key, status in (("b-key", 403), ("wrong", 401)):
                refused = http.post("/gelf", content=pretty, headers={"X-API-Key": key})
                assert refused.status_code == status
            page = Page([http.get("/metrics").text])
        found = asyncio.run(read_topics(broker, [st.topic("raw.gelf")], st.partitions))
        assert {one.header("origin") for one in found} == {"mta1"}
        ids = [one.header("id") for one in found]
        assert (len(ids), len(set(ids))) == (5, 3)
        told = {(one.name, one.labels.get("kind")): one.value for one in page.samples}
        assert told["mailstream_gelf_noise_total", "quota"] == 2


def test_ids_become_names_once_wildduck_has_told_them(broker: str, tmp_path: Path) -> None:
    with wildduck_api({ACCOUNT: "alice"}) as api:
        users = {"users": {"url": api.url, "token": TOKEN}}
        with stand(broker, tmp_path, wildduck=users, privacy={"keep_recipients": True}) as st:
            text = json.dumps(sample("mx_process_received")).encode()
            send(st, text)
            gelf = st.gelf()
            lookups = "mailstream_wildduck_lookups_total"
            wait_until(lambda: gelf.value(lookups, result="found") == 1, "it is told", within_s=30)
            send(st, text)
            unknown = {**sample("mx_process_received"), "_user": "0" * 24}
            send(st, json.dumps(unknown).encode())
            wait_until(lambda: gelf.value(lookups, result="missing") == 1, "asked", within_s=30)
            wait_for(st, 3)
            names = [json.loads(one.value).get("_username") for one in raw(st)]
            assert sorted(names, key=str) == [None, None, "alice"]
            assert api.asked == [ACCOUNT, "0" * 24]


def logins(now: float) -> list[dict[str, Any]]:
    """Return logins of one account and of names that nobody has, and one mail."""
    names = (
        "imap_login_fail_no_mail_action",
        "imap_login_fail_no_mail_action",
        "mta_login_ok_handler",
        "mta_login_ok_plugin_same_login",
        "mta_queued",
    )
    ghosts = [
        {**sample("imap_login_unknown_user"), "_username": f"ghost{number}"} for number in range(20)
    ]
    return [{**one, "timestamp": now} for one in (*map(sample, names), *ghosts)]


def test_logins_are_shown_by_account_and_by_address(broker: str, tmp_path: Path) -> None:
    with stand(broker, tmp_path) as st:
        worker = st.worker()
        messages = logins(time.time())
        send(st, *(zlib.compress(json.dumps(one).encode()) for one in messages))
        wait_for(st, len(messages))

        def shown() -> Page | None:
            page = Page([worker.metrics() or ""])
            counts: Counter[str] = Counter()
            for one in page.samples:
                if one.labels.get("window") == "1h":
                    counts[one.name] += int(one.value)
            everything = {"mail_user_auth": 23, "mail_client_ip_auth": 23} | {
                "mail_client_ip_auth_users": 22,
                "mail_user_auth_client_ips": 3,
            }
            return page if {name: counts[name] for name in everything} == everything else None

        page = wait_until(shown, "logins are shown", within_s=60)
        assert page is not None
        told = {
            (one.name, *sorted(one.labels.values())): one.value
            for one in page.samples
            if one.labels.get("window", "1h") == "1h" or one.name.endswith("_total")
        }
        name, ip = "alice@example.com", "203.0.113.99"
        assert told["mail_user_auth", *sorted(("1h", name, "failed", "imap"))] == 2
        assert told["mail_user_auth", *sorted(("1h", name, "succeeded", "smtp"))] == 1
        assert told["mail_user_auth", *sorted(("1h", "_unknown", "failed", "imap"))] == 20
        assert told["mail_client_ip_auth", *sorted(("1h", ip, "failed", "imap"))] == 22
        assert told["mail_client_ip_auth_users", *sorted(("1h", ip, "failed"))] == 21
        assert told["mail_user_auth_client_ips", *sorted(("1h", name, "failed"))] == 1
        assert told["mail_user_auth_client_ips", *sorted(("1h", "_unknown", "failed"))] == 1
        assert told["mail_events_total", *sorted(("wildduck", "auth_failed", "none"))] == 22
        assert told["mail_events_shadow_total", "wildduck"] == 1
        assert told["mail_events_shadow_total", "gelf"] == 1
        topics = [st.topic(name) for name in ("raw.gelf", "events")]
        stored = asyncio.run(read_topics(broker, topics, st.partitions))
        assert len(stored) == 2 * len(messages) - 2
        logs = [path.read_text() for path in tmp_path.rglob("*.log")]
        for hidden in ("ghost", "bob@", "Hello"):
            assert hidden not in "".join([repr(stored), worker.metrics() or "", *logs])


def test_a_taken_port_is_told_in_one_sentence(broker: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        st = Stand(broker, tmp_path, gelf=any_gelf(udp=f"127.0.0.1:{port}"))
        command = mailstream("produce", "gelf", "--config", st.config)
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert f"mailstream: 127.0.0.1:{port} is taken by another program" in ended.stderr


@pytest.mark.parametrize("name", ["udp", "tcp"])
def test_an_address_that_others_reach_needs_allowed_networks(
    broker: str, tmp_path: Path, name: str
) -> None:
    st = Stand(broker, tmp_path, gelf=any_gelf(**{name: f"0.0.0.0:{free_port(HOST)}"}))
    program = Service("gelf", mailstream("produce", "gelf", "--config", st.config), st.folder)
    program.start()
    wait_until(lambda: not program.running, "it refuses to start", within_s=30)
    assert f"gelf.{name}: others can reach this address: expected gelf.allow" in program.said()
    program.end()
