"""The demo's poster: nothing is lost, whatever ingest answers."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from mailstream.demo import Show, demo
from mailstream.demonstration.posting import Poster, request_headers
from mailstream.run import Running
from mailstream.running.console import LineConsole
from mailstream.running.folder_lock import folder_lock
from mailstream.running.watch import Probe
from mailstream.simulation.traffic import SimulatedEvent, traffic
from pipeline.core.errors import ConfigError, MailstreamError
from pipeline.kit.settings import ApiKey, IngestSettings, KafkaSettings, Settings
from pipeline.kit.settings_load import load

START_MS = 1_700_000_000_000
SETTINGS = Settings(data_dir=Path("unused"))


class JumpingClock:
    """A clock on which a wait takes no time but passes."""

    def __init__(self) -> None:
        self._ms = float(START_MS)
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return int(self._ms)

    def monotonic(self) -> float:
        return self._ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._ms += seconds * 1000


class Ingest:
    """The far side: answers as *answers* say, then accepts everything."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.accepted: list[dict[str, Any]] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        events = events_in(request)
        self.accepted += events
        return httpx.Response(202, json={"accepted": len(events), "rejected": []})


def events_in(request: httpx.Request) -> list[dict[str, Any]]:
    body = request.content
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    events: list[dict[str, Any]] = json.loads(body)["events"]
    return events


def post(
    ingest: Callable[[httpx.Request], httpx.Response],
    events: list[SimulatedEvent],
    *,
    settings: Settings = SETTINGS,
    urls: Iterator[str | None] | None = None,
) -> tuple[Poster, JumpingClock]:
    """Post *events* to *ingest* and return what did it."""

    async def scene() -> tuple[Poster, JumpingClock]:
        probe, clock = Probe(settings), JumpingClock()
        await probe.client.aclose()
        probe.client = httpx.AsyncClient(transport=httpx.MockTransport(ingest))
        running = Running(
            settings=settings,
            console=LineConsole(io.StringIO()),
            probe=probe,
            ingest_url=lambda: "http://ingest" if urls is None else next(urls),
            producer_url=lambda _name: None,
            metrics_urls=("http://worker/metrics",),
            note=lambda _note: None,
        )
        headers = {source: request_headers(settings, source) for source in ("zonemta", "haraka")}
        poster = Poster(running, headers, clock)
        await poster.post_all(events)
        await probe.close()
        return poster, clock

    return asyncio.run(scene())


def simulated(seconds: int = 3, **options: Any) -> list[SimulatedEvent]:
    return list(traffic(7, START_MS, rate=100, duration_ms=seconds * 1000, **options))


def ids(events: list[dict[str, Any]]) -> Counter[str]:
    return Counter(event["event_id"] for event in events)


def test_every_event_is_posted_under_its_source_and_not_before_its_time() -> None:
    events, ingest = simulated(), Ingest()
    poster, clock = post(ingest, events)
    assert ids(ingest.accepted) == ids([event.event for event in events])
    assert poster.accepted == len(events)
    for request in ingest.requests:
        shapes = {"from" in event for event in events_in(request)}
        assert shapes == {request.headers["X-Source"] == "haraka"}
    assert clock.now_ms() >= events[-1].at_ms


def test_large_posts_are_compressed_and_small_ones_are_not() -> None:
    ingest = Ingest()
    post(ingest, simulated())
    for request in ingest.requests:
        compressed = request.headers.get("Content-Encoding") == "gzip"
        assert compressed or len(request.content) <= 4096
    assert any("Content-Encoding" in request.headers for request in ingest.requests)


def test_what_is_not_acknowledged_is_posted_again_after_the_wait_that_was_asked_for() -> None:
    events = simulated()
    ingest = Ingest(
        httpx.Response(503, headers={"Retry-After": "7"}),
        httpx.ConnectError("refused"),
        httpx.Response(500),
        httpx.ReadTimeout("slow"),
    )
    poster, clock = post(ingest, events)
    assert ids(ingest.accepted) == ids([event.event for event in events])
    assert poster.posted_again == 4
    assert 7.0 in clock.slept
    assert poster.summary() == f"{len(events):,} accepted, 0 rejected, 4 posts made again"


def test_an_ingest_that_restarts_elsewhere_is_found_again() -> None:
    events, ingest = simulated(1), Ingest()
    places = (None if number < 3 else f"http://ingest-{number}" for number in count())
    poster, _ = post(ingest, events, urls=places)
    assert poster.accepted == len(events)
    assert poster.posted_again == 3


def test_a_post_that_is_too_large_is_halved() -> None:
    events = simulated()
    whole = Ingest()

    def small(request: httpx.Request) -> httpx.Response:
        return httpx.Response(413) if len(events_in(request)) > 3 else whole(request)

    poster, _ = post(small, events)
    assert ids(whole.accepted) == ids([event.event for event in events])
    assert poster.accepted == len(events)


def test_a_batch_is_never_larger_than_ingest_takes() -> None:
    settings = Settings(data_dir=Path("unused"), ingest=IngestSettings(max_batch_events=5))
    ingest = Ingest()
    post(ingest, simulated(), settings=settings)
    assert max(len(events_in(request)) for request in ingest.requests) == 5


def test_events_that_ingest_finds_unusable_are_counted() -> None:
    def picky(request: httpx.Request) -> httpx.Response:
        total = len(events_in(request))
        rejected = [{"index": 0, "error": "invalid_field"}]
        return httpx.Response(202, json={"accepted": total - 1, "rejected": rejected})

    poster, _ = post(picky, simulated(1))
    assert poster.rejected > 0


def test_a_refusal_that_repeating_cannot_heal_ends_the_demo() -> None:
    with pytest.raises(MailstreamError, match="refused simulated events: 401"):
        post(Ingest(httpx.Response(401, json={"error": "key"})), simulated(1))


def keys(*sources: str) -> Settings:
    key = ApiKey.model_construct(name="mta", key=SecretStr("s3cret"), sources=sources)
    return Settings(data_dir=Path("unused")).model_copy(
        update={"ingest": IngestSettings().model_copy(update={"api_keys": (key,)})}
    )


def test_the_key_of_the_configuration_is_used() -> None:
    assert request_headers(keys("zonemta", "haraka"), "haraka")["X-API-Key"] == "s3cret"
    assert "X-API-Key" not in request_headers(SETTINGS, "haraka")


def test_a_source_that_no_key_may_post_for_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no key may post for haraka"):
        request_headers(keys("zonemta"), "haraka")


def test_a_demo_that_nobody_configured_keeps_its_data_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAILSTREAM_CONFIG", raising=False)
    own = tmp_path / ".mailstream" / "demo" / "data"
    # a lock that is held shows which folder the demo wants
    with folder_lock(own), pytest.raises(ConfigError, match=f"runs on {own} already"):
        asyncio.run(demo(load(None, os.environ), Show()))


def test_simulated_events_are_kept_out_of_a_cluster_s_mail_topics(tmp_path: Path) -> None:
    config = tmp_path / "mailstream.yaml"
    config.write_text("data_dir: d\n")
    settings = Settings(
        data_dir=tmp_path, kafka=KafkaSettings(bootstrap_servers="kafka.example:9092")
    )
    with pytest.raises(ConfigError, match=r"topics\.prefix"):
        asyncio.run(demo(settings, Show(), config=config))
