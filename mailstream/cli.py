"""The command line: what each command needs is imported when it runs.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.  An expected error is one sentence
on standard error, never a traceback.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from pipeline.core.errors import ConfigError, MailstreamError
from producers.registry import PRODUCERS, Producer

if TYPE_CHECKING:
    from pipeline.kit.settings import Settings
    from pipeline.kit.topic_admin import TopicDescription
    from pipeline.kit.values import Address

FAILED: Final = 1
WRONG: Final = 2

_CONFIG_KEY: Final = "mailstream.config"
_MAX_WORKERS: Final = 256

_C = TypeVar("_C", bound=Callable[..., Any])


def _remember_config(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.meta[_CONFIG_KEY] = value


def configurable(command: _C) -> _C:
    """Give *command* the option ``--config``; the innermost one given counts."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=_remember_config,
        help="Configuration file; else $MAILSTREAM_CONFIG, else ./mailstream.yaml.",
    )(command)


def config_path() -> Path | None:
    """Return the file given with ``--config``."""
    path: Path | None = click.get_current_context().meta.get(_CONFIG_KEY)
    return path


def settings() -> Settings:
    """Return the settings of this call."""
    from pipeline.kit.settings_load import load

    return load(config_path(), os.environ)


def bootstrap_of(given: Settings) -> str:
    """Return the broker's address: the configured one, else that of the running local broker.

    Raises:
        MailstreamError: Neither is there.
    """
    from mailstream.local_kafka import running_bootstrap

    bootstrap = given.kafka.bootstrap_servers or running_bootstrap(given.data_dir)
    if bootstrap is None:
        raise MailstreamError(
            f"no Kafka: set kafka.bootstrap_servers, or start the local broker of "
            f"{given.data_dir} with `mailstream kafka start`"
        )
    return bootstrap


def _log_as(component: str, level: int = logging.INFO) -> None:
    """Log as *component*; a command that tells by itself what it does logs warnings only."""
    from pipeline.kit.log import setup

    setup(component, level=level)


class AddressType(click.ParamType):
    """``host:port`` as an option's value."""

    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        """Return the address, or refuse the usage."""
        from pipeline.kit.values import Address

        try:
            return value if isinstance(value, Address) else Address.parse(value)
        except ValueError:
            self.fail("expected an address such as 127.0.0.1:9781", param, ctx)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mailstream", message="%(prog)s %(version)s")
@configurable
def cli() -> None:
    """Exact windowed metrics from mail events, on Kafka."""


_workers = click.option(
    "--workers",
    type=click.IntRange(1, _MAX_WORKERS),
    default=1,
    show_default=True,
    help="Worker processes that share the partitions.",
)


@cli.command()
@configurable
@_workers
def run(workers: int) -> None:
    """Run everything on this machine until Ctrl-C."""
    from mailstream import run as running

    _log_as("run", logging.WARNING)
    asyncio.run(running.run(settings(), running.serve, config=config_path(), workers=workers))


@cli.command()
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

    _log_as("demo", logging.WARNING)
    show = demonstration.Show(rate=rate, seed=seed, duration_s=duration)
    asyncio.run(demonstration.demo(settings(), show, config=config_path(), workers=workers))


@cli.group()
@configurable
def kafka() -> None:
    """Start, stop or look at the local broker."""


@kafka.command("start")
@configurable
def kafka_start() -> None:
    """Start the local broker in the background and print its address."""
    from mailstream.local_kafka import LocalKafka, running_bootstrap

    _log_as("kafka", logging.WARNING)
    folder = settings().data_dir
    click.echo(running_bootstrap(folder) or LocalKafka(folder).start())


@kafka.command("stop")
@configurable
def kafka_stop() -> None:
    """Stop the local broker in order, unless `mailstream run` uses it."""
    from mailstream.local_kafka import LocalKafka
    from mailstream.running.folder_lock import folder_lock

    _log_as("kafka", logging.WARNING)
    folder = settings().data_dir
    if not LocalKafka(folder).status().running:
        click.echo("not running")
        return
    with folder_lock(folder):  # a run would start it again
        click.echo("stopped" if LocalKafka(folder).stop() else "not running")


@kafka.command("status")
@configurable
def kafka_status() -> int:
    """Tell whether the local broker runs; exit 1 if it does not."""
    from mailstream.local_kafka import LocalKafka

    status = LocalKafka(settings().data_dir).status()
    state = f"running at {status.bootstrap}, pid {status.pid}" if status.running else "not running"
    click.echo(state)
    click.echo(f"folder: {status.folder}")
    click.echo(f"log: {status.log}")
    return 0 if status.running else FAILED


@cli.group()
@configurable
def topics() -> None:
    """Create or describe the topics."""


@topics.command("create", short_help="Create what is missing; safe to repeat.")
@configurable
def topics_create() -> None:
    """Create what is missing and bring the rest up to date; safe to repeat."""
    from pipeline.core.topics import TOPICS
    from pipeline.kit.topic_admin import create_topics

    _log_as("topics", logging.WARNING)
    given = settings()
    asyncio.run(create_topics(given, bootstrap_of(given)))
    click.echo(
        f"{len(TOPICS)} topics {given.topics.prefix}* with {given.topics.partitions} partitions each"
    )


@topics.command("describe")
@configurable
def topics_describe() -> None:
    """Show every topic as the cluster has it."""
    from pipeline.kit.topic_admin import describe_topics

    _log_as("topics", logging.WARNING)
    given = settings()
    _show_topics(asyncio.run(describe_topics(given, bootstrap_of(given))))


def _show_topics(descriptions: Sequence[TopicDescription]) -> None:
    """Print a table on a terminal, else one line of fields separated by tabs per topic."""
    from pipeline.kit.values import duration_text

    heads = ("topic", "partitions", "replicas", "retention", "bytes", "records", "holds")
    rows = [
        (
            row.name,
            str(row.partitions) if row.partitions else "missing",
            str(row.replication_factor),
            duration_text(row.retention_ms) if row.retention_ms is not None else "-",
            str(row.retention_bytes) if row.retention_bytes is not None else "-",
            str(row.records),
            row.holds,
        )
        for row in descriptions
    ]
    if not sys.stdout.isatty():
        for line in (heads, *rows):
            click.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads)
    for line in rows:
        table.add_row(*line)
    Console().print(table)


@cli.command(short_help="Run one worker; all of a prefix share the work.")
@configurable
@click.option("--name", default="worker-1", show_default=True, help="What the log calls it.")
@click.option("--listen", type=AddressType(), help="Where /metrics is; else metrics.listen.")
def worker(name: str, listen: Address | None) -> None:
    """Run one worker: it shares the partitions with all others of the same prefix."""
    from mailstream.worker import main as run_worker
    from pipeline.kit.listen import Guard

    _log_as(name)
    given = settings()
    address = listen or given.metrics.listen
    guard = Guard(address, given.metrics.allow, given.metrics.username, given.metrics.password)
    guard.require_protection()
    run_worker(given, bootstrap_of(given), name=name, listen=address)


@cli.group()
@configurable
def produce() -> None:
    """Run one producer."""


def _run_producer(producer: Producer) -> None:
    import uvloop

    from pipeline.kit.clock import SystemClock

    _log_as(producer.name)
    given = settings()

    async def serve() -> None:
        bootstrap = bootstrap_of(given) if producer.needs_kafka(given) else ""
        await producer.serve(given, bootstrap, SystemClock())

    uvloop.run(serve())


for _producer in PRODUCERS:
    produce.command(_producer.name, help=_producer.summary)(
        configurable(partial(_run_producer, _producer))
    )


@cli.group()
@configurable
def config() -> None:
    """Check the configuration, or print an example."""


@config.command("check", short_help="Print the effective settings, secrets masked.")
@configurable
def config_check() -> None:
    """Print the effective settings, secrets masked, and warnings as comments."""
    from pipeline.kit.settings_checks import warnings
    from pipeline.kit.settings_doc import effective

    given = settings()
    click.echo(effective(given), nl=False)
    for warning in warnings(given):
        click.echo(f"# warning: {warning}")


@config.command("example")
@configurable
def config_example() -> None:
    """Print a commented configuration file of all defaults."""
    from pipeline.kit.settings_doc import example

    click.echo(example(), nl=False)


def call(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; errors go to standard error."""
    try:
        result = cli.main(args=arguments, prog_name="mailstream", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except BrokenPipeError:  # as in `mailstream config example | head -1`
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  for the flush at exit
        return FAILED
    except (MailstreamError, OSError, click.Abort, KeyboardInterrupt) as exc:
        for sentence in _sentences(exc):
            click.echo(f"mailstream: {sentence}", err=True)
        return WRONG if isinstance(exc, ConfigError) else FAILED
    return result if isinstance(result, int) else 0


def _sentences(exc: BaseException) -> tuple[str, ...]:
    if isinstance(exc, ConfigError):
        return exc.mistakes
    if isinstance(exc, OSError) and exc.filename:
        return (f"{exc.filename}: {exc.strerror}",)
    return (str(exc) or "interrupted",)


def main() -> NoReturn:
    """Run the command line of this process."""
    sys.exit(call())
