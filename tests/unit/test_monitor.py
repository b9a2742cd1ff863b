"""What a producer without an HTTP input shows of itself, on a real socket."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from pipeline.kit import service
from pipeline.kit.settings import Settings
from producers.monitor import Monitor

LOGIN = {"Authorization": aiohttp.encode_basic_auth("prometheus", "hunter2")}


def settings(folder: Path, **metrics: Any) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": folder,
            "metrics": metrics,
            "cpanel": {"listen": "127.0.0.1:0", "servers": []},
        }
    )


async def answers(
    given: Settings, *paths: str, status: str = "ok", headers: dict[str, str] | None = None
) -> list[tuple[int, str, str]]:
    """Return status, type and text at each of *paths*."""
    registry = CollectorRegistry()
    Gauge("shown", "A number.", registry=registry).set(7)
    monitor = Monitor(given, "cpanel", given.cpanel, registry, lambda: {"status": status})
    await monitor.start()
    try:
        at = service.announced(given.data_dir)["cpanel"].address
        async with aiohttp.ClientSession(f"http://{at}", headers=headers) as session:
            found = []
            for path in paths:
                async with session.get(path) as answer:
                    found.append((answer.status, answer.content_type, await answer.text()))
            return found
    finally:
        await monitor.stop()


def test_the_first_page_links_to_the_metrics_and_the_health(tmp_path: Path) -> None:
    page, metrics, health = asyncio.run(answers(settings(tmp_path), "/", "/metrics", "/health"))
    assert page[:2] == (200, "text/html")
    assert 'href="metrics"' in page[2]
    assert 'href="health"' in page[2]
    assert "shown 7.0" in metrics[2]
    assert re.search(r"^mailstream_data_free_bytes \d", metrics[2], re.MULTILINE)
    assert health[0] == 200


def test_a_producer_that_is_unwell_says_so_by_its_status(tmp_path: Path) -> None:
    ((status, _type, text),) = asyncio.run(
        answers(settings(tmp_path), "/health", status="unavailable")
    )
    assert status == 503
    assert "unavailable" in text


@pytest.mark.parametrize(("headers", "status"), [(None, 401), (LOGIN, 200)])
def test_with_a_password_the_page_and_the_metrics_want_it(
    tmp_path: Path, headers: dict[str, str] | None, status: int
) -> None:
    given = settings(tmp_path, username="prometheus", password="hunter2")
    found = asyncio.run(answers(given, "/", "/metrics", headers=headers))
    assert [one[0] for one in found] == [status, status]
