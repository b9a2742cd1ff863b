"""Which failures are the Kafka clients' own: the partition is opened again, in place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiokafka.errors import ConsumerStoppedError, IllegalOperation, KafkaError

from pipeline.core.errors import InvariantError, MailstreamError

CLIENT_FAILURES: Final = (
    KafkaError,
    IllegalOperation,
    ConsumerStoppedError,
    # aiokafka guards the state machine of its transactions and seeks by assertions.
    AssertionError,
    asyncio.InvalidStateError,
    OSError,
    TimeoutError,
)
"""After one of these the outcome of a call is unknown; the log tells, once it is read again."""


class LogGapError(MailstreamError):
    """A batch was lost on its way through Faust: seek back to the position and go on."""


class OutOfLogError(MailstreamError):
    """The committed offset is not in the log: the topic was made anew, or lost its end."""


class OutputTooLargeError(MailstreamError):
    """One output record exceeds what a topic takes; fewer input records may give smaller ones."""


@contextmanager
def own_code() -> Iterator[None]:
    """Keep errors of our own code from being taken for Kafka's.

    Raises:
        InvariantError: The block raised one of :data:`CLIENT_FAILURES`.
    """
    try:
        yield
    except CLIENT_FAILURES as exc:
        raise InvariantError(f"{type(exc).__name__}: {exc}") from exc
