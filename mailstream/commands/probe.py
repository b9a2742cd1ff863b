"""``probe once``: one round of a route in the terminal."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailstream.commands.common import FAILED, configurable, log_as, settings

if TYPE_CHECKING:
    from pipeline.kit.settings import Settings
    from producers.sources.probe.config import ProbeConfig, Route
    from producers.sources.probe.outcome import Outcome


@click.group()
@configurable
def probe() -> None:
    """Try the routes of the roundtrip probe by hand."""


@probe.command()
@configurable
@click.option("--route", "names", multiple=True, help="Name of a route; else all, one by one.")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The probe's own file; else probe.config, $CONFIG_PATH, ./config.yaml.",
)
def once(names: tuple[str, ...], path: Path | None) -> int:
    """Run one round of a route, and show each phase as it goes on.

    Exit code 0: the mail was found in the INBOX in time; 1: it was not; 2: wrong configuration.
    """
    from producers.sources.probe.config_read import read_config
    from producers.sources.probe.example import config_path

    log_as("probe", logging.ERROR)  # the table tells the rest
    given = settings()
    file = path.absolute() if path else config_path(given.probe.config, os.environ)
    config = read_config(file, os.environ, given.probe.listen)
    for sentence in config.warnings:
        click.echo(f"{file}: {sentence}", err=True)
    routes = [_route(config, name) for name in names] or list(config.routes)
    found = [asyncio.run(_round(given, config, route)) for route in routes]
    return 0 if all(outcome.kind.value == "inbox" for outcome in found) else FAILED


def _route(config: ProbeConfig, name: str) -> Route:
    for route in config.routes:
        if route.name == name:
            return route
    known = ", ".join(route.name for route in config.routes)
    raise click.BadParameter(f"there is no route {name}; there are {known}", param_hint="--route")


async def _round(given: Settings, config: ProbeConfig, route: Route) -> Outcome:
    from mailstream.probe_view import open_view
    from pipeline.kit.clock import SystemClock
    from pipeline.kit.privacy_key import privacy_key
    from producers.sources.probe.legs import Legs
    from producers.sources.probe.outcome import scrubber
    from producers.sources.probe.round import Round
    from producers.sources.probe.service import means_for, origin_of
    from producers.sources.probe.token import probe_key

    clock = SystemClock()
    means = means_for(config, clock)
    # A key of its own: a service that runs takes this mail for nobody's, and lets it be.
    origin = f"{origin_of(given, config)}/once/{os.getpid()}"
    legs = Legs(probe_key(privacy_key(given), origin), means)
    try:
        with open_view(route, scrubber(config.secrets)) as view:
            one = Round(route, config.options, legs, clock, watch=view.show)
            outcome, *copies = await one.run()
            view.end(outcome, len(copies))
    finally:
        means.executor.shutdown(wait=False, cancel_futures=True)
    return outcome
