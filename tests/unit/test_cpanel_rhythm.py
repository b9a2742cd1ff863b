"""When a server is asked: in its rhythm, more and more seldom while it fails, and never not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from pipeline.core.errors import FencedError, TransientError
from tests.kit.cpanel import Bench
from tests.kit.whm import SEARCH, Reply, Whm, refused, row_like

MINUTE = 60.0
HOUR = 3600
Wrong = Callable[[], Reply] | None
"""What goes wrong in one poll."""


def failing() -> Reply:
    return refused(SEARCH, "out of order")


def broken() -> Reply:
    raise ZeroDivisionError("a bug")


def polled(bench: Bench, course: Sequence[Wrong], seconds: int = HOUR) -> list[float]:
    """Return when polls began, in seconds; poll number n goes wrong as *course* says."""
    begun: list[float] = []

    def mood(function: str) -> Reply | None:
        now = bench.clock.monotonic()
        if function != SEARCH:
            return None
        if not begun or begun[-1] < now:
            begun.append(now)
        wrong = course[len(begun) - 1] if len(begun) <= len(course) else None
        return None if wrong is None else wrong()

    async def live() -> None:
        bench.whm.mood = mood
        task = asyncio.create_task(bench.poller.run())
        await bench.clock.advance(seconds)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(live())
    return begun


def errors(bench: Bench, reason: str) -> float | None:
    return bench.value("mailstream_cpanel_errors_total", origin="web1", reason=reason)


def test_a_server_that_answers_is_asked_once_every_interval() -> None:
    begun = polled(Bench(Whm()), [])
    assert 0 <= begun[0] < MINUTE, "servers begin at moments of their own"
    assert {round(after - before, 6) for before, after in pairwise(begun)} == {MINUTE}


def test_failures_are_waited_out_and_a_success_brings_the_rhythm_back() -> None:
    bench = Bench(Whm())
    bench.poller._random = random.Random(1)
    begun = polled(bench, [None, *[failing] * 6, None, None])
    waits = [after - before for before, after in pairwise(begun)]
    assert waits[0] == pytest.approx(MINUTE)
    assert all(MINUTE <= wait <= MINUTE + 600 for wait in waits[1:7])
    assert sum(waits[1:7]) > 8 * MINUTE
    assert set(map(round, waits[7:])) == {60}
    assert errors(bench, "refused") == 6
    assert bench.value("mailstream_up", source="cpanel", origin="web1") == 1
    assert bench.poller.trouble is None


def test_a_bug_of_ours_is_told_and_polling_goes_on() -> None:
    bench = Bench(Whm())
    polled(bench, [broken, broken])
    assert errors(bench, "bug") == 2
    assert bench.value("mailstream_up", source="cpanel", origin="web1") == 1


@pytest.mark.parametrize(
    ("error", "reason", "least_s"),
    [(TransientError("away"), "kafka", 0.0), (FencedError("taken"), "taken", MINUTE)],
)
def test_a_failure_to_write_is_followed_by_another_look_at_the_log(
    error: Exception, reason: str, least_s: float
) -> None:
    bench = Bench(Whm())
    now_s = bench.clock.now_ms() // 1000
    bench.whm.add(row_like("success", sendunixtime=now_s, actionunixtime=now_s))
    bench.log.refusals.append(error)
    begun = polled(bench, [])
    assert errors(bench, reason) == 1
    assert bench.log.opens == 2
    assert begun[1] - begun[0] >= least_s
    assert len(bench.log.records) == 1
