"""Records of ``mail.panes``: closed panes of 5 minutes; several of one pane add up."""

from __future__ import annotations

from typing import Final

import msgspec

from consumers.moments import Moment, moment_ms


class Pane(msgspec.Struct, kw_only=True, gc=False):
    """A record of ``mail.panes``."""

    family: str
    key: msgspec.Raw
    event_type: str
    start: Moment
    length_s: int
    count: int
    recipients: int = 0
    bytes: int = 0
    delivery_ms_sum: float = 0.0
    delivery_ms_buckets: list[int] = []
    partial: bool = False

    @property
    def start_ms(self) -> int:
        """Return when it starts, milliseconds since the epoch.

        Raises:
            RecordError: That is no time.
        """
        return moment_ms(self.start)


pane_of: Final = msgspec.json.Decoder(Pane).decode
"""Returns the pane of a record's value; raises ``msgspec.MsgspecError`` if it holds none."""

_key: Final = msgspec.json.Decoder(tuple[str, ...]).decode


def key_of_pane(pane: Pane) -> tuple[str, ...]:
    """Return the values of its key.

    Raises:
        msgspec.MsgspecError: It is no list of texts.
    """
    return _key(pane.key)
