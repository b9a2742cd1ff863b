"""Listeners on real sockets: who may connect, how errors look, what cannot be bound."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.core.errors import ConfigError, MailstreamError
from pipeline.kit.listen import Guard, middlewares, same_secret, server_tls, start_site
from pipeline.kit.values import Address

T = TypeVar("T")
LOOPBACK = Address("127.0.0.1", 0)
ANY = Address("0.0.0.0", 0)
JSON = {"Content-Type": "application/json"}


async def answer(_: web.Request) -> web.Response:
    return web.Response(text="fine")


async def take(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


async def fail(_: web.Request) -> web.Response:
    raise KeyError("hunter2")


async def refuse(_: web.Request) -> web.Response:
    raise web.HTTPServiceUnavailable(headers={"Retry-After": "7"})


async def move(_: web.Request) -> web.Response:
    raise web.HTTPFound("/ok")


def app(guard: Guard) -> web.Application:
    made = web.Application(middlewares=middlewares(guard), client_max_size=1000)
    made.router.add_get("/ok", answer)
    made.router.add_get("/health", answer)
    made.router.add_post("/take", take)
    made.router.add_get("/fail", fail)
    made.router.add_get("/refuse", refuse)
    made.router.add_get("/move", move)
    return made


class Reply:
    """One raw HTTP reply."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}  # fmt: skip

    @property
    def error(self) -> str:
        fields = json.loads(self.body)
        assert self.headers["content-type"].startswith("application/json")
        assert set(fields) == {"error", "detail"}
        assert fields["detail"]
        return str(fields["error"])


async def ask(
    address: Address,
    path: str,
    *,
    method: str = "GET",
    host: str | None = "localhost",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Reply:
    """Send one request just as written, which clients with manners would not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()
    return Reply(raw)


def serving(guard: Guard, work: Callable[[Address], Awaitable[T]]) -> T:
    async def scenario() -> T:
        site = await start_site(app(guard), guard.listen)
        try:
            return await work(site.address)
        finally:
            await site.stop()

    return asyncio.run(scenario())


def reply(guard: Guard, path: str, **request: Any) -> Reply:
    return serving(guard, lambda address: ask(address, path, **request))


def test_port_zero_is_any_free_one_and_it_is_told() -> None:
    async def work(address: Address) -> int:
        assert address.port
        return (await ask(address, "/ok")).status

    assert serving(Guard(LOOPBACK), work) == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9780", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:9780", 200),
        ("evil.example", 403),
        ("evil.example:9780", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.0.2.1", 403),
        ("", 403),
    ],
)
def test_a_loopback_listener_checks_the_host(host: str, status: int) -> None:
    got = reply(Guard(LOOPBACK), "/ok", host=host)
    assert got.status == status
    if status == 403:
        assert got.error == "forbidden"


def test_a_listener_for_others_takes_any_host_and_content() -> None:
    guard = Guard(ANY, allow=(ip_network("127.0.0.0/8"),))
    assert reply(guard, "/ok", host="mail.example").status == 200
    assert reply(guard, "/take", method="POST", body=b"x").status == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        (None, 415),
    ],
)
def test_a_loopback_listener_wants_json_on_post(content: str | None, status: int) -> None:
    headers = {"Content-Type": content} if content else {}
    assert (
        reply(Guard(LOOPBACK), "/take", method="POST", headers=headers, body=b"{}").status == status
    )


@pytest.mark.parametrize(
    ("allow", "status"),
    [("127.0.0.0/8", 200), ("127.0.0.1/32", 200), ("10.0.0.0/8", 403), ("::/0", 403)],
)
def test_only_allowed_networks_may_connect(allow: str, status: int) -> None:
    for listen in (LOOPBACK, ANY):
        assert reply(Guard(listen, allow=(ip_network(allow),)), "/health").status == status


def test_an_ipv4_peer_of_a_socket_for_both_families_counts_as_ipv4() -> None:
    guard = Guard(Address("::", 0), allow=(ip_network("127.0.0.1"),))
    assert reply(guard, "/ok").status == 200


@pytest.mark.parametrize(
    ("credentials", "status"),
    [
        ("joe:sécret", 200),
        ("joe:wrong", 401),
        ("ann:sécret", 401),
        ("joe:", 401),
        ("joe", 401),
        (None, 401),
    ],
)
def test_basic_auth_guards_all_but_the_open_paths(credentials: str | None, status: int) -> None:
    guard = Guard(LOOPBACK, username="joe", password=SecretStr("sécret"))
    headers = {}
    if credentials is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode()
    got = reply(guard, "/ok", headers=headers)
    assert got.status == status
    if status == 401:
        assert got.headers["www-authenticate"].startswith("Basic ")
        assert got.error == "unauthorized"
    assert reply(guard, "/health").status == 200


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic /w==", "Bearer x", "x" * 5000])
def test_odd_authorization_is_refused(header: str) -> None:
    guard = Guard(LOOPBACK, username="joe", password=SecretStr("secret"))
    assert reply(guard, "/ok", headers={"Authorization": header}).status == 401


def test_every_error_is_json() -> None:
    guard = Guard(LOOPBACK)
    missing = reply(guard, "/none")
    assert (missing.status, missing.error) == (404, "not_found")
    method = reply(guard, "/ok", method="DELETE")
    assert (method.status, method.error) == (405, "method_not_allowed")
    assert set(method.headers["allow"].split(",")) == {"GET", "HEAD"}
    large = reply(guard, "/take", method="POST", headers=JSON, body=b"x" * 2000)
    assert large.status == 413
    assert large.error
    busy = reply(guard, "/refuse")
    assert (busy.status, busy.error) == (503, "service_unavailable")
    assert busy.headers["retry-after"] == "7"
    assert reply(guard, "/move").status == 302


def test_a_bug_is_logged_and_tells_strangers_nothing(caplog: pytest.LogCaptureFixture) -> None:
    got = reply(Guard(LOOPBACK), "/fail")
    assert (got.status, got.error) == (500, "internal_error")
    assert b"hunter2" not in got.body
    assert b"KeyError" not in got.body
    (logged,) = [record for record in caplog.records if record.name == "pipeline.kit.listen"]
    assert logged.exc_info is not None
    assert logged.__dict__["path"] == "/fail"


def test_a_taken_port_is_one_sentence_with_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(MailstreamError) as caught:
            asyncio.run(start_site(app(Guard(address)), address))
    assert str(caught.value) == f"{address} is taken by another program"


def test_a_foreign_address_is_one_sentence() -> None:
    with pytest.raises(MailstreamError, match=r"192\.0\.2\.1:0 is no address of this machine"):
        asyncio.run(start_site(app(Guard(ANY)), Address("192.0.2.1", 0)))


def test_a_service_that_strangers_could_use_refuses_to_start() -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0:0: others can reach this address"):
        Guard(ANY).require_protection()
    Guard(ANY).require_protection(has_credentials=True)
    Guard(ANY, allow=(ip_network("10.0.0.0/8"),)).require_protection()
    Guard(ANY, username="joe", password=SecretStr("x")).require_protection()
    Guard(LOOPBACK).require_protection()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", cert, "-days", "1", "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_with_a_certificate_a_listener_talks_tls(certificate: tuple[Path, Path]) -> None:
    async def scenario() -> bytes:
        site = await start_site(app(Guard(LOOPBACK)), LOOPBACK, server_tls(*certificate))
        try:
            trust = ssl.create_default_context(cafile=str(certificate[0]))
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", site.address.port, ssl=trust, server_hostname="localhost"
            )
            writer.write(b"GET /ok HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            raw = await reader.read()
            writer.close()
            await writer.wait_closed()
            return raw
        finally:
            await site.stop()

    assert asyncio.run(scenario()).endswith(b"fine")


def test_certificates_that_cannot_be_used_are_a_configuration_error(tmp_path: Path) -> None:
    assert server_tls(None, None) is None
    with pytest.raises(ConfigError, match="cannot be used"):
        server_tls(tmp_path / "none", tmp_path / "none")


@given(st.text(), st.text())
def test_secrets_are_equal_when_their_texts_are(first: str, second: str) -> None:
    assert same_secret(first, second) == (first == second)
    assert same_secret(first, first)
