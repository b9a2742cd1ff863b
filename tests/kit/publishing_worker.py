"""A worker that publishes in small transactions, and may die at one step of the n-th of them.

``python -m tests.kit.publishing_worker STEP N OPTIONS``; the steps are those of the interrupted worker.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer

from mailstream.cli import main
from pipeline.transport import publisher

MOST_RECORDS = 40
"""In one transaction: fewer than a frame becomes."""
SPREAD_S = 3.0

Method = Callable[..., Awaitable[Any]]


class Death:
    """Counts how often publishers reach a step."""

    def __init__(self, step: str, number: int) -> None:
        self._step, self._left = step, number

    def wrap(self) -> None:
        """Wrap the client's methods."""
        producer: Any = AIOKafkaProducer
        producer.begin_transaction = self._around("", producer.begin_transaction, "begun")
        producer.send_offsets_to_transaction = self._around(
            "written", producer.send_offsets_to_transaction, "offsets"
        )
        producer.commit_transaction = self._around("", producer.commit_transaction, "committed")

    def _around(self, before: str, method: Method, after: str) -> Method:
        async def wrapped(client: Any, *args: Any, **kwargs: Any) -> Any:
            publishes = ".rollups-" in client._txn_manager.transactional_id
            if publishes:
                self._reached(before)
            result = await method(client, *args, **kwargs)
            if publishes:
                self._reached(after)
            return result

        return wrapped

    def _reached(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    publisher.MOST_RECORDS = MOST_RECORDS  # type: ignore[misc]  # the test's own
    publisher.SPREAD_S = SPREAD_S  # type: ignore[misc]  # the test's own
    Death(sys.argv[1], int(sys.argv[2])).wrap()
    sys.argv[1:] = ["worker", *sys.argv[3:]]
    main()
