"""A worker that dies, freezes or meets an error at one step of its n-th transaction.

``python -m tests.kit.interrupted_worker kill|freeze|fail STEP N OPTIONS``.

``roll-up:STEP`` counts the transactions of roll-ups alone.  The program is the product's own; only the Kafka client's methods are wrapped.
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

ROLL_UP = "roll-up:"

Method = Callable[..., Awaitable[Any]]


class Interruption:
    """Counts transactions and interrupts the process once."""

    def __init__(self, kind: str, step: str, number: int) -> None:
        self._kind, self._left = kind, number
        self._of_roll_ups = step.startswith(ROLL_UP)
        self._step = step.removeprefix(ROLL_UP)

    def wrap(self) -> None:
        """Wrap the client's methods."""
        producer: Any = AIOKafkaProducer
        producer.begin_transaction = self._after("begun", producer.begin_transaction)
        producer.send_offsets_to_transaction = self._before(
            "written", self._after("offsets", producer.send_offsets_to_transaction)
        )
        producer.commit_transaction = self._after("committed", producer.commit_transaction)

    def _after(self, step: str, method: Method) -> Method:
        async def wrapped(producer: Any, *args: Any, **kwargs: Any) -> Any:
            result = await method(producer, *args, **kwargs)
            self._reached(step, producer)
            return result

        return wrapped

    def _before(self, step: str, method: Method) -> Method:
        async def wrapped(producer: Any, *args: Any, **kwargs: Any) -> Any:
            self._reached(step, producer)
            return await method(producer, *args, **kwargs)

        return wrapped

    def _reached(self, step: str, producer: Any) -> None:
        # A roll-up's transaction is named after its partition of the deltas.
        of_roll_ups = ".deltas-" in producer._txn_manager.transactional_id
        if step == self._step and of_roll_ups >= self._of_roll_ups:
            self._left -= 1
            if self._left == 0 and self._kind == "fail":
                raise KafkaConnectionError("the connection broke, as far as the client knows")
            if self._left == 0:
                os.kill(os.getpid(), SIGNALS[self._kind])


if __name__ == "__main__":
    Interruption(sys.argv[1], sys.argv[2], int(sys.argv[3])).wrap()
    sys.argv[1:] = ["worker", *sys.argv[4:]]
    main()
