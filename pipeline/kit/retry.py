"""Retries: the same call again, after growing random waits, within a deadline."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pipeline.core.errors import TransientError
from pipeline.kit.clock import Clock

log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter: wait ``uniform(0, min(cap, base * 2**attempt))``.

    Full jitter, because many workers lose one broker at the same moment and must not come
    back at the same moment.
    """

    base_s: float = 0.1
    cap_s: float = 5.0
    deadline_s: float | None = 30.0
    """Give up when the next wait would end later than this; None: never."""

    def wait_s(self, attempt: int, rng: random.Random) -> float:
        """Return the wait in seconds before attempt number *attempt* + 1, counting from 0."""
        return rng.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(attempt, 60)))


async def retry(
    call: Callable[[], Awaitable[_T]],
    *,
    clock: Clock,
    backoff: Backoff,
    rng: random.Random | None = None,
    level: int = logging.WARNING,
) -> _T:
    """Return what *call* returns, calling it again as long as it raises ``TransientError``.

    A wait that the far side named (``retry_after_s``) is kept, even if longer than the cap.
    *level* is that of the log line per failed attempt.

    Raises:
        TransientError: The last one, when the deadline leaves no time for another attempt.
    """
    rng = rng or random.Random()  # noqa: S311  jitter needs no secrecy
    started = clock.monotonic()
    attempt = 0
    while True:
        try:
            return await call()
        except TransientError as exc:
            wait = max(backoff.wait_s(attempt, rng), exc.retry_after_s or 0.0)
            spent = clock.monotonic() - started
            if backoff.deadline_s is not None and spent + wait > backoff.deadline_s:
                raise
            log.log(
                level,
                "trying again after a failure",
                extra={"error": str(exc), "wait_s": round(wait, 3), "attempt": attempt + 1},
            )
        attempt += 1
        await clock.sleep(wait)
