"""Events of Haraka: inbound unless said otherwise; the aliases speak of the peer."""

from __future__ import annotations

from typing import Final

from pipeline.core.posted import PostedEvent

DIRECTION: Final = "inbound"


def resolve(event: PostedEvent) -> None:
    """Give the aliases of *event* their meaning.

    ``source_ip`` is the peer (``connection.remote.ip``).  A ``hostname`` beside it is the peer's
    (``connection.remote.host``) and has no field; alone, it is the MTA's own name.
    """
    if event.mta_node is None and event.source_ip is None:
        event.mta_node = event.hostname
    if event.client_ip is None:
        event.client_ip = event.source_ip
