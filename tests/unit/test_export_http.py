"""The worker's HTTP service, asked over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession
from pydantic import SecretStr

from pipeline.core.errors import ConfigError
from pipeline.export.http import serve_http
from pipeline.kit.service import announce
from pipeline.kit.settings import MetricsSettings
from pipeline.kit.values import Address
from tests.kit.frames import Row
from tests.kit.worker import NOW, RAW, Worker

FREE = Address("127.0.0.1", 0)


def ask(worker: Worker, path: str, **request: Any) -> tuple[int, dict[str, str], bytes]:
    """Serve the worker, send one GET, and return status, headers and body as sent."""

    async def go() -> tuple[int, dict[str, str], bytes]:
        site = await serve_http(
            worker.settings, worker.exporter, worker.stats, worker.clock, listen=FREE
        )
        try:
            async with (
                ClientSession(
                    auto_decompress=False, skip_auto_headers=["Accept-Encoding"]
                ) as session,
                session.get(f"http://{site.address}{path}", **request) as answer,
            ):
                return answer.status, dict(answer.headers), await answer.read()
        finally:
            await site.stop()

    return asyncio.run(go())


def basic_auth(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def json_of(worker: Worker, path: str) -> tuple[int, Any]:
    status, headers, body = ask(worker, path)
    assert headers["Content-Type"].startswith("application/json")
    return status, orjson.loads(body)


def test_metrics_are_plain_text_unless_asked_otherwise() -> None:
    worker = Worker()
    worker.fold(user=[Row(("ann",), "sent", NOW)])
    status, headers, body = ask(worker, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'mail_user_events{window="1m",user="ann",event_type="sent"} 1\n' in body
    assert b"process_cpu_seconds_total" in body
    assert b"python_gc_collections_total" in body
    assert b"# EOF" not in body


def test_metrics_are_openmetrics_when_asked_for() -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.1"}
    _, headers, body = ask(Worker(), "/metrics", headers=accept)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


def test_metrics_are_compressed_when_the_client_takes_gzip() -> None:
    worker = Worker()
    worker.fold(user=[Row(("ann",), "sent", NOW)])
    _, headers, body = ask(worker, "/metrics", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert headers["Content-Encoding"] == "gzip"
    assert b'user="ann"' in gzip.decompress(body)
    _, headers, body = ask(worker, "/metrics", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers


def test_scrapes_at_the_same_time_take_turns() -> None:
    worker = Worker()
    worker.fold(user=[Row(("ann",), "sent", NOW)])
    worker.page()
    worker.pass_time(2 * 3_600_000)

    async def both() -> list[bytes]:
        pages = await asyncio.gather(*(worker.exporter.page() for _ in range(2)))
        return [page.body for page in pages]

    first, second = asyncio.run(both())
    assert first.count(b'user="ann"') == 3
    assert second.count(b'user="ann"') == 0


def test_name_chooses_metrics_and_uses_up_no_zero_of_the_windows() -> None:
    worker = Worker()
    worker.fold(user=[Row(("ann",), "sent", NOW)])
    assert worker.page().count('user="ann"') == 3
    worker.pass_time(2 * 3_600_000)
    chosen = worker.page("", "mail_events_total", "mailstream_lag")
    types = [line for line in chosen.splitlines() if line.startswith("# TYPE")]
    assert types == ["# TYPE mailstream_lag gauge", "# TYPE mail_events_total counter"]
    _, _, asked = ask(worker, "/metrics?name[]=mail_events_total&name[]=mailstream_lag")
    assert asked.decode() == chosen
    emptied = worker.page("", "mail_user_events")
    assert emptied.count('user="ann",event_type="sent"} 0\n') == 3
    assert "mail_ip_events" not in emptied


def test_metrics_want_the_password_when_there_is_one_and_health_does_not() -> None:
    protected = MetricsSettings(username="prom", password=SecretStr("s3cret"))
    worker = Worker(metrics=protected)
    assert ask(worker, "/metrics")[0] == 401
    assert ask(worker, "/metrics", headers=basic_auth("prom", "wrong"))[0] == 401
    assert ask(worker, "/metrics", headers=basic_auth("prom", "s3cret"))[0] == 200
    assert ask(worker, "/health")[0] == 200
    assert ask(worker, "/ready")[0] == 200


def test_a_worker_that_strangers_could_read_does_not_start() -> None:
    worker = Worker()
    start = serve_http(
        worker.settings,
        worker.exporter,
        worker.stats,
        worker.clock,
        listen=Address("0.0.0.0", 0),
    )
    with pytest.raises(ConfigError, match="credentials"):
        asyncio.run(start)


def test_health_tells_of_every_partition() -> None:
    worker = Worker()
    source = worker.assign(RAW, 2)
    source.position, source.high_watermark = 10, 25
    status, health = json_of(worker, "/health")
    assert (status, health["status"], health["windows_complete"]) == (200, "ok", False)
    assert health["delay_seconds"] == 0
    assert health["last_heartbeat_ms"] == NOW
    assert health["partitions"][1] == {
        "topic": RAW,
        "partition": 2,
        "ready": False,
        "position": 10,
        "lag": 15,
        "stopped": None,
    }


def test_health_is_503_when_a_partition_stopped_for_good() -> None:
    worker = Worker()
    worker.assign(RAW, 0).stopped = "ten poison records in a minute"
    status, health = json_of(worker, "/health")
    assert (status, health["status"], health["error"]) == (503, "stopped", "stopped")
    assert health["partitions"][1]["stopped"] == "ten poison records in a minute"
    assert worker.samples("mailstream_partitions_stopped") == {"": 1}


def test_ready_is_503_with_the_reasons_until_all_is_open_and_folded() -> None:
    worker = Worker()
    source = worker.assign(RAW, 0)
    assert json_of(worker, "/ready") == (
        503,
        {"ready": False, "error": "not_ready", "detail": ["mail.raw.zonemta 0 is being opened"]},
    )
    source.ready = True
    assert json_of(worker, "/ready") == (200, {"ready": True})


def test_workers_are_told_as_prometheus_discovers_them(tmp_path: Path) -> None:
    worker = Worker(data_dir=tmp_path)
    assert json_of(worker, "/workers") == (200, [])
    announce(tmp_path, "worker-1", Address("127.0.0.1", 9781))
    announce(tmp_path, "worker-2", Address("127.0.0.1", 9793))
    announce(tmp_path, "ingest", Address("127.0.0.1", 9780))
    assert json_of(worker, "/workers") == (
        200,
        [{"targets": ["127.0.0.1:9781", "127.0.0.1:9793"], "labels": {}}],
    )


def test_the_exporter_ticks_while_nobody_asks() -> None:
    worker = Worker()

    async def go() -> int:
        site = await serve_http(
            worker.settings, worker.exporter, worker.stats, worker.clock, listen=FREE
        )
        await worker.clock.advance(3)
        await site.stop()
        return worker.board.now_ms

    assert asyncio.run(go()) == NOW + 3000


def test_the_docs_are_printed_by_the_catalogue() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.export.catalogue"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith("# Metrics of the worker\n")
