"""Closed connections to Kafka, where uvloop and aiokafka do not understand each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_SENDERS: Final = ("send", "_send_sasl_token")


def heed_closed_connections() -> None:
    """Make aiokafka's clients of this process take a write to a closed connection for its loss.

    uvloop raises RuntimeError there, aiokafka 0.14 expects OSError: the task that keeps a client's
    metadata up to date would end, and everyone who waits for metadata would wait for ever.
    """
    for name in _SENDERS:
        send = getattr(AIOKafkaConnection, name)
        if not hasattr(send, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _heeding(send))


def _heeding(send: Callable[..., Any]) -> Callable[..., Any]:
    def heeding(connection: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return send(connection, *args, **kwargs)
        except RuntimeError as exc:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"the connection is closed: {exc}") from exc

    heeding.__wrapped__ = send  # type: ignore[attr-defined]  # as functools.wraps marks it
    return heeding
