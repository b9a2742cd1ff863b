"""Closing aiokafka's clients, which may take long and must not be cancelled.

``AIOKafkaClient.close`` cancels a task of its own, waits for it, and takes *any* cancellation that
it meets there for the end of that task (aiokafka 0.14).  Whoever is cancelled while closing a
client would go on as if nothing had happened, and whoever waits for it would wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def close_within(closing: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Run *closing* in a task of its own, which a cancellation of the caller does not reach.

    After *seconds* it is cancelled, and given up if it goes on for as long again.

    Returns:
        Whether it ended by itself, and without an error.

    Raises:
        CancelledError: The caller was cancelled meanwhile; it is raised when *closing* has ended.
    """
    task = asyncio.create_task(closing)
    cancelled: asyncio.CancelledError | None = None
    for attempt in range(2):
        if attempt:
            task.cancel()
        try:
            await asyncio.wait([task], timeout=seconds)
        except asyncio.CancelledError as exc:
            cancelled = exc
            await asyncio.wait([task], timeout=seconds)
        if task.done():
            break
    # An error is looked at, or asyncio would report it as never retrieved.
    ended = task.done() and not task.cancelled() and task.exception() is None
    if cancelled is not None:
        raise cancelled
    return ended
