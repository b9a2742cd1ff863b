"""Which failures are the Kafka clients' own: the partition is opened again, in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.errors import InvariantError, MailstreamError
from pipeline.kit.transactions import CLIENT_FAILURES


class LogGapError(MailstreamError):
    """A batch was lost on its way through Faust: seek back to the position and go on."""


class OutOfLogError(MailstreamError):
    """The committed offset is not in the log: the topic was made anew, or lost its end."""


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
