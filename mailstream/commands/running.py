"""``run``, ``demo``, ``worker`` and ``produce``: the processes of an installation."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from mailstream.commands.common import (
    AddressType,
    bootstrap_of,
    config_path,
    configurable,
    log_as,
    settings,
)
from producers.registry import PRODUCERS, Producer

if TYPE_CHECKING:
    from pipeline.kit.values import Address

_MAX_WORKERS: Final = 256

_workers = click.option(
    "--workers",
    type=click.IntRange(1, _MAX_WORKERS),
    default=1,
    show_default=True,
    help="Worker processes that share the partitions.",
)


@click.command()
@configurable
@_workers
def run(workers: int) -> None:
    """Run everything on this machine until Ctrl-C."""
    from mailstream import run as running

    log_as("run", logging.WARNING)
    asyncio.run(running.run(settings(), running.serve, config=config_path(), workers=workers))


@click.command()
@configurable
@_workers
@click.option(
    "--rate",
    type=click.FloatRange(min=0.01),
    default=50.0,
    show_default=True,
    help="Events per second, mean over a day.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the traffic.")
@click.option(
    "--duration",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Seconds; 0: until Ctrl-C.",
)
def demo(workers: int, rate: float, seed: int, duration: float) -> None:
    """Run everything, with realistic simulated traffic."""
    from mailstream import demo as demonstration

    log_as("demo", logging.WARNING)
    show = demonstration.Show(rate=rate, seed=seed, duration_s=duration)
    asyncio.run(demonstration.demo(settings(), show, config=config_path(), workers=workers))


@click.command(short_help="Run one worker; all of a prefix share the work.")
@configurable
@click.option("--name", default="worker-1", show_default=True, help="What the log calls it.")
@click.option("--listen", type=AddressType(), help="Where /metrics is; else metrics.listen.")
def worker(name: str, listen: Address | None) -> None:
    """Run one worker: it shares the partitions with all others of the same prefix."""
    from mailstream.worker import main as run_worker
    from pipeline.kit.listen import Guard

    log_as(name)
    given = settings()
    address = listen or given.metrics.listen
    guard = Guard(address, given.metrics.allow, given.metrics.username, given.metrics.password)
    guard.require_protection()
    run_worker(given, bootstrap_of(given), name=name, listen=address)


@click.group()
@configurable
def produce() -> None:
    """Run one producer."""


def _run_producer(producer: Producer) -> None:
    import uvloop

    from pipeline.kit.clock import SystemClock

    log_as(producer.name)
    given = settings()

    async def serve() -> None:
        bootstrap = bootstrap_of(given) if producer.needs_kafka(given) else ""
        await producer.serve(given, bootstrap, SystemClock())

    uvloop.run(serve())


for _producer in PRODUCERS:
    produce.command(_producer.name, help=_producer.summary)(
        configurable(partial(_run_producer, _producer))
    )
