"""What a question costs the view when 1,000,000 keys are folded.

The board is the view's own, filled with frames without Kafka; the questions are asked over HTTP of
a service that runs in this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import httpx
import numpy as np
from aiohttp import web
from prometheus_client import CollectorRegistry

from bench.figures import Figure
from consumers.view.alerts import Alerts
from consumers.view.answers import Answers
from consumers.view.history import History
from consumers.view.http import ViewHttp
from consumers.view.live import LiveEvents
from consumers.view.messages import Messages
from consumers.view.nodes import Nodes
from consumers.view.recent import Recent
from pipeline.core.delta import VERSION, DeltaFrame, FamilyRows, encode_frame
from pipeline.core.families import FAMILY
from pipeline.core.pane import HOUR_MS, MINUTE_MS
from pipeline.fold.board import Board
from pipeline.kit.clock import SystemClock
from pipeline.kit.listen import Guard, middlewares, start_site
from pipeline.kit.settings_view import ViewSettings
from pipeline.kit.values import Address
from producers.privacy import Privacy
from tests.kit.frames import FrameRecord

KEYS: Final = 1_000_000
PARTITIONS: Final = 4
TYPES: Final = 3
ROUNDS: Final = 200
CHUNK: Final = 10_000
TOP_BAR_MS: Final = 50.0
_WINDOWS: Final = (MINUTE_MS, 5 * MINUTE_MS, HOUR_MS)


def measure() -> Iterator[Figure]:
    """Yield the figures."""
    clock = SystemClock()
    board = filled(clock.now_ms())
    yield from asyncio.run(_asked(board, clock))


def filled(now_ms: int) -> Board:
    """Return a board on which a million users have sent, had delivered and had bounced."""
    board = Board(_WINDOWS)
    rnd = np.random.default_rng(1)
    mine = KEYS // PARTITIONS
    for partition in range(PARTITIONS):
        board.open(partition)
        for first in range(0, mine, CHUNK):
            names = [f"user{partition}-{first + n}@example.com" for n in range(CHUNK)]
            index = np.repeat(np.arange(CHUNK), TYPES)
            counts = rnd.zipf(1.5, len(index)).clip(max=100_000)
            rows = FamilyRows.of(
                "user",
                names,
                index,
                np.tile(np.array([0, 1, 3]), CHUNK),
                np.full(len(index), now_ms // 10_000),
                {str(name): counts for name in FAMILY["user"].sums},
            )
            frame = encode_frame(DeltaFrame(VERSION, "raw.zonemta", 0, now_ms, [rows]))
            board.fold(partition, [FrameRecord(frame)], now_ms)
        board.complete(partition)
    return board


async def _asked(board: Board, clock: SystemClock) -> list[Figure]:
    recent, alerts = Recent(), Alerts()
    answers = Answers(board, recent, Nodes(), alerts, lambda: True)
    messages = Messages((), Privacy(b"bench"))
    live = LiveEvents(recent, alerts, clock)
    settings = ViewSettings(listen=Address("127.0.0.1", 0))
    history = History(answers, None)
    http = ViewHttp(settings, answers, history, recent, messages, live, CollectorRegistry(), list)
    app = web.Application(middlewares=middlewares(Guard(settings.listen)))
    http.add_to(app)
    site = await start_site(app, settings.listen)
    questions = {
        "view.top": ("top?dimension=user&window=1h&event_type=bounced&n=20", TOP_BAR_MS),
        "view.top_all_types": ("top?dimension=user&window=1h&n=20", TOP_BAR_MS),
        "view.series": ("series?dimension=user&key=user0-7@example.com", None),
    }
    try:
        async with httpx.AsyncClient(base_url=f"http://{site.address}/api/v1/") as client:
            return [
                await _question(client, name, path, bar) for name, (path, bar) in questions.items()
            ]
    finally:
        await site.stop()
        await messages.close()


async def _question(client: httpx.AsyncClient, name: str, path: str, bar: float | None) -> Figure:
    times = []
    cpu_s = time.process_time()
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        answer = await client.get(path)
        times.append((time.perf_counter() - begun) * 1000)
        assert answer.status_code == httpx.codes.OK, answer.text
    cpu_s = time.process_time() - cpu_s
    times.sort()
    more = {
        "keys": KEYS,
        "p50_ms": round(times[ROUNDS // 2], 1),
        "cpu_ms": round(cpu_s / ROUNDS * 1000, 1),
        "slowest_ms": round(times[-1], 1),
    }
    p95 = times[ROUNDS * 95 // 100]
    return Figure(name, round(p95, 1), "ms, p95", bar=bar, at_most=True, more=more)


if __name__ == "__main__":
    for figure in measure():
        print(figure.line())
