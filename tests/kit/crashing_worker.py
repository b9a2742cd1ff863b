"""A worker that kills itself at one step of its n-th transaction: ``crashing_worker.py STEP N ...``.

The program is the product's own; only the Kafka client's methods are wrapped.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer

from mailstream.cli import main

STEPS = ("begun", "written", "offsets", "committed")
"""After which step it dies: nothing written, outputs written, offsets sent too, all committed."""

Method = Callable[..., Awaitable[Any]]


class Crash:
    """Counts transactions and ends the process."""

    def __init__(self, step: str, number: int) -> None:
        self._step, self._left = step, number

    def wrap(self) -> None:
        """Wrap the client's methods."""
        producer: Any = AIOKafkaProducer
        producer.begin_transaction = self._after("begun", producer.begin_transaction)
        producer.send_offsets_to_transaction = self._before(
            "written", self._after("offsets", producer.send_offsets_to_transaction)
        )
        producer.commit_transaction = self._after("committed", producer.commit_transaction)

    def _after(self, step: str, method: Method) -> Method:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = await method(*args, **kwargs)
            self._reached(step)
            return result

        return wrapped

    def _before(self, step: str, method: Method) -> Method:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._reached(step)
            return await method(*args, **kwargs)

        return wrapped

    def _reached(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Crash(sys.argv[1], int(sys.argv[2])).wrap()
    sys.argv[1:] = ["worker", *sys.argv[3:]]
    main()
