"""WHM on a socket: how it is asked, and each way in which it can fail."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.core.errors import ConfigError
from pipeline.kit.listen import server_tls, start_site
from pipeline.kit.settings_cpanel import CpanelServer
from pipeline.kit.values import Address
from producers.privacy import Privacy
from producers.sources.cpanel import client as client_module
from producers.sources.cpanel.client import (
    SENTENCES,
    Trouble,
    WhmClient,
    WhmError,
    client_tls,
    records_of,
)
from producers.sources.cpanel.polling import Clock, Window
from producers.sources.cpanel.rows import RowReader
from producers.sources.cpanel.search import ask
from tests.kit.whm import (
    SEARCH,
    Reply,
    Whm,
    json_reply,
    page,
    refused,
    row_like,
    sample,
    serving,
)

ERRORS = sample("errors")
PLAIN = client_tls(None, verify=True)


def configured(url: str, whm: Whm, **keys: Any) -> CpanelServer:
    given = {"name": "web1", "url": url, "user": whm.user, "token": whm.token, **keys}
    return CpanelServer.model_validate(given)


def called(server: CpanelServer, tls: ssl.SSLContext = PLAIN) -> dict[str, Any]:
    """Return the answer to one search."""

    async def call() -> dict[str, Any]:
        api = WhmClient(server, tls)
        try:
            return await api.call(SEARCH, {"success": 1})
        finally:
            await api.close()

    return asyncio.run(call())


def trouble(whm: Whm, **keys: Any) -> WhmError:
    with serving(whm) as url, pytest.raises(WhmError) as caught:
        called(configured(url, whm, **keys))
    assert whm.token not in str(caught.value)
    return caught.value


def test_a_search_comes_back_over_http_as_rows() -> None:
    whm = Whm(user="reseller")
    row = row_like("success")
    whm.add(row)
    at = int(row["actionunixtime"])

    async def search(url: str) -> int:
        api = WhmClient(configured(url, whm), PLAIN)
        try:
            reader = RowReader("web1", None, Privacy(b"key"))
            answer = await ask(api, reader, Window(Clock.ACTION, at, at + 1))
        finally:
            await api.close()
        assert not answer.overflowed
        return len(answer.rows)

    with serving(whm) as url:
        assert asyncio.run(search(url)) == 1
    ((_, parameters),) = whm.calls
    assert parameters["api.version"] == "1"


@pytest.mark.parametrize(
    ("reply", "expected", "detail"),
    [
        (json_reply(ERRORS["function_failed"]), Trouble.REFUSED, "database is not available"),
        (refused(SEARCH, "The mail role is disabled."), Trouble.DISABLED, "role is disabled"),
        (refused(SEARCH, "Uncontrolled failure"), Trouble.REFUSED, "Uncontrolled failure"),
        (json_reply(ERRORS["other_api"], 403), Trouble.UNAUTHORIZED, "Access denied"),
        (json_reply(ERRORS["other_api"]), Trouble.REFUSED, "Access denied"),
        (page(ERRORS["login_page"]), Trouble.NOT_JSON, ""),
        (page(ERRORS["login_page"])._replace(status=401), Trouble.UNAUTHORIZED, "HTTP 401"),
        (Reply(500, "text/html", b"oops"), Trouble.STATUS, "HTTP 500"),
        (Reply(302, "text/html", b""), Trouble.STATUS, "HTTP 302"),
        (json_reply([1, 2]), Trouble.MALFORMED, ""),
        (json_reply({"metadata": "x"}), Trouble.MALFORMED, ""),
        (json_reply({"metadata": {}}), Trouble.REFUSED, ""),
        (Reply(200, "application/json", b'{"metadata": {"resu'), Trouble.NOT_JSON, ""),
        (Reply(200, "application/json", b"[" * 100_000), Trouble.NOT_JSON, ""),
    ],
)
def test_each_wrong_answer_has_its_name(reply: Reply, expected: Trouble, detail: str) -> None:
    whm = Whm()
    whm.mood = lambda _function: reply
    error = trouble(whm)
    assert error.trouble is expected
    assert detail in error.detail


def test_every_trouble_has_a_sentence_of_its_own() -> None:
    assert set(SENTENCES) == set(Trouble)
    assert len(set(SENTENCES.values())) == len(Trouble)


def test_a_wrong_token_is_refused_and_not_repeated_in_the_error() -> None:
    whm, other = Whm(), Whm(token="ANOTHERTOKEN12345678")
    with serving(other) as url, pytest.raises(WhmError) as caught:
        called(configured(url, whm))
    assert caught.value.trouble is Trouble.UNAUTHORIZED
    assert not other.calls


def test_a_reason_that_repeats_the_token_is_masked_and_cut() -> None:
    whm = Whm()
    whm.mood = lambda function: refused(function, f"token {whm.token} is bad\n" + "x" * 1000)
    error = trouble(whm)
    assert error.detail.startswith("token *** is bad x")
    assert len(error.detail) == 200


def test_a_server_that_does_not_answer_in_time_is_left() -> None:
    whm = Whm()
    whm.held.clear()
    assert trouble(whm, timeout=1000).trouble is Trouble.TIMEOUT


def test_a_server_that_is_not_there_is_unreachable() -> None:
    whm = Whm()
    with serving(whm) as url:
        pass
    with pytest.raises(WhmError) as caught:
        called(configured(url, whm))
    assert caught.value.trouble is Trouble.UNREACHABLE


def test_an_answer_beyond_all_bounds_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1000)
    whm = Whm()
    whm.mood = lambda _function: Reply(200, "application/json", b" " * 100_000)
    assert trouble(whm).trouble is Trouble.TOO_LARGE


def test_replies_that_are_no_utf_8_and_halves_of_pairs_spoil_no_answer() -> None:
    body = b'{"metadata": {"result": 1}, "data": {"records": [{"message": "\xe9 \\ud800 x"}]}}'
    whm = Whm()
    whm.mood = lambda _function: Reply(200, "application/json", body)
    with serving(whm) as url:
        (record,) = records_of(called(configured(url, whm)))
    assert record["message"] == "\ufffd \ufffd x"


@pytest.mark.parametrize("data", [None, {}, {"records": None}])
def test_an_answer_without_records_has_none(data: object) -> None:
    assert records_of({"metadata": {"result": 1}, "data": data} if data else {}) == []


def test_records_of_another_kind_are_refused() -> None:
    with pytest.raises(WhmError):
        records_of({"data": {"records": {"a": 1}}})


def test_a_certificate_must_be_trusted_unless_told_otherwise(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip

    async def call(tls: ssl.SSLContext, host: str) -> str:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({"metadata": {"result": 1}})

        app = web.Application()
        app.router.add_get("/json-api/{function}", answer)
        site = await start_site(app, Address("127.0.0.1", 0), server_tls(cert, key))
        url = f"https://{host}:{site.address.port}"
        api = WhmClient(configured(url, Whm()), tls)
        try:
            await api.call(SEARCH, {})
        except WhmError as exc:
            return exc.trouble.value
        finally:
            await api.close()
            await site.stop()
        return "ok"

    cases: list[tuple[Callable[[], ssl.SSLContext], str, str]] = [
        (lambda: PLAIN, "localhost", "certificate"),
        (lambda: client_tls(cert, verify=True), "localhost", "ok"),
        (lambda: client_tls(cert, verify=True), "127.0.0.1", "certificate"),
        (lambda: client_tls(None, verify=False), "127.0.0.1", "ok"),
    ]
    for tls, host, expected in cases:
        assert asyncio.run(call(tls(), host)) == expected
    with pytest.raises(ConfigError, match="cannot be used"):
        client_tls(key, verify=True)


def test_the_client_logs_no_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    whm = Whm()
    with serving(whm) as url:
        called(configured(url, whm))
    assert whm.token not in caplog.text
