"""``sink``: copies what the pipeline wrote into a store, until told to stop."""

from __future__ import annotations

from functools import partial

import click

from consumers.sinks.registry import SINKS, SinkRow
from mailstream.commands.common import bootstrap_of, configurable, log_as, settings


@click.group()
@configurable
def sink() -> None:
    """Copy events, panes and observations into a store."""


def _run_sink(row: SinkRow) -> None:
    import uvloop

    from mailstream.sink import serve
    from pipeline.kit.clock import SystemClock

    log_as(row.process)
    given = settings()

    async def run() -> None:
        await serve(row, given, bootstrap_of(given), SystemClock())

    uvloop.run(run())


for _row in SINKS:
    sink.command(_row.name, help=_row.summary)(configurable(partial(_run_sink, _row)))
