"""A steady 1,000 events a second through HTTP: what the worker costs, and how fresh its page is.

In the end one of two workers is killed: how long until the other shows everything, current again.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import httpx

from bench.figures import Figure
from tests.kit.processes import Worker, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import Stand, now_ms, stand
from tests.kit.traffic import Drawn, plain

RATE: Final = 1000
TICK_S: Final = 0.1
TOP_KEYS: Final = 500
WARM_S: Final = 5.0
COST_S: Final = 20.0
SCRAPE_S: Final = 5.0
"""Prometheus' usual interval is three times that."""
FRESH_S: Final = 25.0
POLL_S: Final = 0.2
BEHIND_S: Final = 3.0
"""Numbers are fresh when what was acknowledged so long ago is shown."""


class Poster:
    """Posts events at a steady rate; every second post holds one that can be told from all others."""

    def __init__(self, address: str, count: int) -> None:
        self.acknowledged: dict[str, float] = {}
        """When each mark (a node's name) was acknowledged, monotonic seconds."""
        self.marking = threading.Event()
        self._address = address
        now = now_ms()
        self._drawn = plain(count, seed=2, first_ms=now, last_ms=now + count * 1000 // RATE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poster")
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin to post."""
        self._thread.start()

    def stop(self) -> None:
        """Stop posting.

        Raises:
            RuntimeError: Posting failed.
        """
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise RuntimeError("posting failed") from self._failure

    def _run(self) -> None:
        try:
            self._post()
        except Exception as exc:  # noqa: BLE001  it is raised again by stop()
            self._failure = exc

    def _post(self) -> None:
        due = time.monotonic()
        turn = 0
        with httpx.Client(base_url=f"http://{self._address}", timeout=30) as client:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                due += TICK_S
                turn += 1
                events = [_now(one) for one in islice(self._drawn, int(RATE * TICK_S))]
                mark = f"mark-{turn}" if turn % 2 and self.marking.is_set() else None
                if mark is not None:
                    events[0]["mta_node"] = mark
                answer = client.post("/api/v1/email-events/batch", json={"events": events})
                assert answer.status_code == 202, answer.text
                if mark is not None:
                    self.acknowledged[mark] = time.monotonic()


def _now(drawn: Drawn) -> dict[str, object]:
    event: dict[str, object] = json.loads(drawn.body)
    event["timestamp"] = now_ms() / 1000
    return event


def measure(bootstrap: str, folder: Path) -> Iterator[Figure]:
    """Yield cost, freshness and recovery."""
    with stand(bootstrap, folder, pipeline={"top_keys": TOP_KEYS}) as st:
        worker = st.worker(1)
        st.wait_until_ready()
        address = st.ingest().address()
        assert address is not None
        poster = Poster(address, RATE * 600)
        poster.start()
        try:
            _watch(worker, WARM_S)
            yield _cost(worker)
            yield from _freshness(worker, poster)
            yield _recovery(st, poster)
        finally:
            poster.stop()


def _watch(worker: Worker, seconds: float) -> None:
    """Let *seconds* pass, scraping as Prometheus does."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        assert worker.metrics() is not None
        time.sleep(min(SCRAPE_S, left))


def _cost(worker: Worker) -> Figure:
    began, before = time.monotonic(), worker.cpu_s()
    _watch(worker, COST_S)
    share = (worker.cpu_s() - before) / (time.monotonic() - began)
    more = {"events_per_second": RATE, "scrape_interval_s": SCRAPE_S}
    return Figure("steady.cpu", 100 * share, "% of a core", 15, at_most=True, more=more)


def _freshness(worker: Worker, poster: Poster) -> Iterator[Figure]:
    """Yield how long after its acknowledgement an event is on a page: p50 and p99."""
    poster.marking.set()
    shown: dict[str, float] = {}
    end = time.monotonic() + FRESH_S
    while time.monotonic() < end:
        text = worker.metrics()
        at = time.monotonic()
        for mark in _marks(text):
            shown.setdefault(mark, at)
        time.sleep(POLL_S)
    delays = [
        at - poster.acknowledged[mark]
        for mark, at in shown.items()
        if poster.acknowledged.get(mark, end) < end - BEHIND_S
    ]
    late = [
        mark
        for mark, at in poster.acknowledged.items()
        if at < end - BEHIND_S and mark not in shown
    ]
    delays += [FRESH_S] * len(late)
    more = {"marks": len(delays), "poll_s": POLL_S}
    cuts = statistics.quantiles(delays, n=100)
    yield Figure("steady.fresh_p50", cuts[49], "s", at_most=True, more=more)
    yield Figure("steady.fresh_p99", cuts[98], "s", BEHIND_S, at_most=True, more=more)


def _recovery(st: Stand, poster: Poster) -> Figure:
    st.worker(2)
    wait_until(lambda: _share(st) and st.running()[1].ready(), "both have partitions", within_s=60)
    st.wait_until_ready()
    _watch(st.worker(1), BEHIND_S)
    st.worker(1).kill()
    killed = time.monotonic()
    survivor = st.worker(2)
    wait_until(lambda: _current(survivor, poster, killed), "fresh again", within_s=90)
    seconds = time.monotonic() - killed
    return Figure(
        "recovery.kill", seconds, "s", 25, at_most=True, more={"workers": "2, one killed"}
    )


def _share(st: Stand) -> bool:
    """Tell whether every running worker has partitions."""
    return all("mailstream_lag{" in (worker.metrics() or "") for worker in st.running())


def _current(worker: Worker, poster: Poster, killed: float) -> bool:
    """Tell whether its numbers are complete and hold all that was acknowledged a while ago."""
    text = worker.metrics()
    if text is None:
        return False
    complete = Page([text]).values("mailstream_windows_complete")
    limit = time.monotonic() - BEHIND_S
    wanted = {mark for mark, at in list(poster.acknowledged.items()) if at < limit}
    return min(complete, default=0) == 1 and limit > killed - BEHIND_S and wanted <= _marks(text)


def _marks(text: str | None) -> set[str]:
    return {
        one.labels["node"]
        for one in Page([text or ""]).samples
        if one.name == "mail_node_events" and one.labels["node"].startswith("mark-")
    }
