"""A worker that dies, freezes or meets an error at one step of its n-th transaction.

``python -m tests.kit.interrupted_worker kill|freeze|fail STEP N OPTIONS``.

The program is the product's own; only the Kafka client's methods are wrapped.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from mailstream.cli import main

STEPS = ("begun", "written", "offsets", "committed")
"""After which step: nothing written, outputs written, offsets sent too, all committed."""
SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}

Method = Callable[..., Awaitable[Any]]


class Interruption:
    """Counts transactions and interrupts the process once."""

    def __init__(self, kind: str, step: str, number: int) -> None:
        self._kind, self._step, self._left = kind, step, number

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
            if self._left == 0 and self._kind == "fail":
                raise KafkaConnectionError("the connection broke, as far as the client knows")
            if self._left == 0:
                os.kill(os.getpid(), SIGNALS[self._kind])


if __name__ == "__main__":
    Interruption(sys.argv[1], sys.argv[2], int(sys.argv[3])).wrap()
    sys.argv[1:] = ["worker", *sys.argv[4:]]
    main()
