"""Events of ZoneMTA: outbound unless said otherwise; the aliases speak of our side."""

from __future__ import annotations

from typing import Final

from pipeline.core.posted import PostedEvent

DIRECTION: Final = "outbound"


def resolve(event: PostedEvent) -> None:
    """Give the aliases of *event* their meaning.

    ``source_ip`` is the local address that the mail left from (``ip`` of ZoneMTA's log entries),
    ``hostname`` the MTA's own name.
    """
    if event.sending_ip is None:
        event.sending_ip = event.source_ip
    if event.mta_node is None:
        event.mta_node = event.hostname
