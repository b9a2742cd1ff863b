"""``view``: the query API and the web page."""

from __future__ import annotations

import click

from mailstream.commands.common import bootstrap_of, configurable, log_as, settings


@click.command()
@configurable
def view() -> None:
    """Answer questions about the stream, and show it as a web page."""
    import uvloop

    from consumers.view.service import NAME, serve
    from pipeline.kit.clock import SystemClock
    from producers.privacy_rules import privacy_rules

    log_as(NAME)
    given = settings()

    async def answer() -> None:
        await serve(given, bootstrap_of(given), SystemClock(), privacy_rules(given, "zonemta"))

    uvloop.run(answer())
