"""Retries: jittered, growing, within a deadline, and no faster than the far side asks."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import Backpressure, FencedError, TransientError
from pipeline.kit.retry import Backoff, retry
from tests.kit.clock import FakeClock


class Flaky:
    """Raises the given errors one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def finish(call: Flaky, clock: FakeClock, backoff: Backoff) -> str:
    task = asyncio.create_task(retry(call, clock=clock, backoff=backoff, rng=random.Random(1)))
    while not task.done():
        await clock.advance(0.05)
    return await task


def test_it_calls_until_it_succeeds_with_growing_jittered_waits() -> None:
    clock, call = FakeClock(), Flaky(*(TransientError("away") for _ in range(6)))
    backoff = Backoff(base_s=0.1, cap_s=0.8, deadline_s=None)
    assert asyncio.run(finish(call, clock, backoff)) == "done"
    assert call.calls == 7
    for wait, limit in zip(clock.slept, (0.1, 0.2, 0.4, 0.8, 0.8, 0.8), strict=True):
        assert 0 <= wait <= limit
    assert len(set(clock.slept)) == 6


def test_the_far_side_may_name_a_longer_wait() -> None:
    clock, call = FakeClock(), Flaky(Backpressure("full", retry_after_s=7.0))
    asyncio.run(finish(call, clock, Backoff(cap_s=1.0)))
    assert clock.slept == [7.0]


def test_the_last_error_is_raised_when_the_deadline_leaves_no_time() -> None:
    clock = FakeClock()
    errors = [TransientError(str(number)) for number in range(1000)]
    call = Flaky(*errors)
    with pytest.raises(TransientError) as caught:
        asyncio.run(finish(call, clock, Backoff(base_s=1.0, cap_s=1.0, deadline_s=10.0)))
    assert caught.value is errors[call.calls - 1]
    assert sum(clock.slept) <= 10.0


def test_other_errors_are_not_retried() -> None:
    call = Flaky(FencedError("gone"))
    with pytest.raises(FencedError):
        asyncio.run(finish(call, FakeClock(), Backoff()))
    assert call.calls == 1


@given(st.integers(0, 10_000), st.floats(0.001, 10), st.floats(0.001, 100), st.integers())
def test_a_wait_never_exceeds_the_cap(attempt: int, base: float, cap: float, seed: int) -> None:
    wait = Backoff(base_s=base, cap_s=cap).wait_s(attempt, random.Random(seed))
    assert 0 <= wait <= min(cap, base * 2 ** min(attempt, 60))
