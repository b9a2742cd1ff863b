"""Windows as calls of ``emailtrack_search``, and its answers as rows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from pipeline.core.loose import whole
from producers.sources.cpanel.client import records_of
from producers.sources.cpanel.polling import PAGE, Answer, Window
from producers.sources.cpanel.rows import Row, RowReader

FUNCTION: Final = "emailtrack_search"
_SLICE: Final = 500
"""Rows read between two turns of the event loop: about 10 ms."""


def parameters_of(window: Window) -> dict[str, str | int]:
    """Return the parameters that ask for *window*, sorted by its clock.

    All four outcomes are named, because nothing says what an absent one means.  Operators and the
    method of sorting are numeric: WHM would compare texts, and a numeric column sorted as text
    fails the call.
    """
    parameters: dict[str, str | int] = {
        "success": 1,
        "defer": 1,
        "failure": 1,
        "inprogress": 1,
        "deliverytype": "all",
        "max_results_by_type": window.cap,
        "api.filter.enable": 1,
        "api.filter.a.field": window.clock.value,
        "api.filter.a.type": "gt_equal",
        "api.filter.a.arg0": window.start_s,
        "api.filter.b.field": window.clock.value,
        "api.filter.b.type": "lt",
        "api.filter.b.arg0": window.end_s,
        "api.sort.enable": 1,
        "api.sort.a.field": window.clock.value,
        "api.sort.a.method": "numeric",
    }
    if window.first is not None:
        parameters |= {
            "api.chunk.enable": 1,
            "api.chunk.size": PAGE,
            "api.chunk.start": window.first,
        }
    return parameters


class Api(Protocol):
    """What is called (:class:`producers.sources.cpanel.client.WhmClient`)."""

    async def call(self, function: str, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        """Return the answer of *function*; raises WhmError."""


async def ask(client: Api, reader: RowReader, window: Window) -> Answer:
    """Return the answer to *window*.

    Raises:
        WhmError: There is none.
    """
    answer = await client.call(FUNCTION, parameters_of(window))
    rows: list[Row] = []
    malformed = 0
    for place, given in enumerate(records_of(answer), 1):
        row = reader.read(given)
        if row is None:
            malformed += 1
        else:
            rows.append(row)
        if place % _SLICE == 0:
            await asyncio.sleep(0)
    overflowed = bool(whole(answer["metadata"].get("overflowed")))
    return Answer(rows, overflowed, malformed)
