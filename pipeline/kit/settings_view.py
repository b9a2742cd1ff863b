"""Settings of the view, which answers questions about what the stream says now."""

from __future__ import annotations

from pydantic import Field

from pipeline.kit.settings_base import HeaderSecret, Listener
from pipeline.kit.values import Address, AddressValue


class ViewSettings(Listener):
    """The query API and the web page; null: off."""

    listen: AddressValue = Field(
        default=Address("127.0.0.1", 9785), description="Where it listens; port 0: any free one."
    )
    api_key: HeaderSecret | None = Field(
        default=None,
        description="What a look-up of a message must have in the header `X-API-Key`; "
        "null: no messages are looked up.",
    )
