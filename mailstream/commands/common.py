"""What commands share: the configuration option, settings, the broker, logs, addresses."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pipeline.core.errors import MailstreamError

if TYPE_CHECKING:
    from consumers.filters import Predicate
    from pipeline.kit.settings import Settings
    from pipeline.kit.values import Address

FAILED: Final = 1
WRONG: Final = 2

_CONFIG_KEY: Final = "mailstream.config"

GC_THRESHOLD: Final = 20_000
"""New objects after which cycles are looked for, where objects come by the million; Python's: 700."""

_T = TypeVar("_T")
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


def log_as(component: str, level: int = logging.INFO) -> None:
    """Log as *component*; a command that tells by itself what it does logs warnings only."""
    from pipeline.kit.log import setup

    setup(component, level=level)


def run_hurried(work: Coroutine[Any, Any, _T]) -> _T:
    """Run what moves records by the million, at less CPU for each of them."""
    import gc

    import uvloop

    from pipeline.transport.compression import set_zstd_level

    set_zstd_level()
    # Looking for cycles among thousands of live records that have none took a third of the time.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    return uvloop.run(work)


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


class DurationType(click.ParamType):
    """A duration such as ``10m`` as an option's value, in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the milliseconds, or refuse the usage."""
        from pipeline.kit.values import duration_ms

        try:
            return value if isinstance(value, int) else duration_ms(value)
        except ValueError:
            self.fail("expected a duration such as 30s, 10m, 24h or 7d", param, ctx)


class TimeType(click.ParamType):
    """A time as RFC 3339 spells it, as an option's value, in milliseconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the milliseconds, or refuse the usage."""
        from pipeline.core.errors import RecordError
        from pipeline.core.timestamp import epoch_ms

        try:
            return value if isinstance(value, int) else epoch_ms(str(value))
        except RecordError:
            self.fail("expected a time such as 2026-01-02T03:04:05Z", param, ctx)


class OffsetsType(click.ParamType):
    """``partition:first-end`` as an option's value."""

    name = "partition:first-end"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        """Return the three numbers, or refuse the usage."""
        if isinstance(value, tuple):
            return value
        partition, _, span = str(value).partition(":")
        numbers = [partition, *span.split("-")]
        if len(numbers) != 3 or not all(
            one.isascii() and one.isdigit() and len(one) < 19 for one in numbers
        ):
            self.fail("expected partition:first-end, such as 3:1700-1800", param, ctx)
        number, first, end = map(int, numbers)
        if first >= end:
            self.fail("the end is the offset after the last, so larger than the first", param, ctx)
        return number, first, end


class SpeedType(click.ParamType):
    """A speed such as ``10x`` as an option's value; None is as fast as it goes."""

    name = "10x|max"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Return how many times as fast, or refuse the usage."""
        if value == "max":
            return None
        try:
            speed = float(str(value).removesuffix("x"))
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail("expected a speed such as 10x or 0.5x, or max", param, ctx)
        return speed


class ExpressionType(click.ParamType):
    """An expression over events as an option's value."""

    name = "expr"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Predicate:
        """Return the predicate, or refuse the usage."""
        from consumers.expressions import ExpressionError, compiled

        if callable(value):
            return value  # type: ignore[no-any-return]  # converted before
        try:
            return compiled(value)
        except ExpressionError as exc:
            self.fail(str(exc), param, ctx)


def printable(text: str) -> str:
    """Return *text* without what a terminal would take for a command; others wrote it."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def show_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on a terminal, else one line of fields separated by tabs per row."""
    if not sys.stdout.isatty():
        for line in (heads, *rows):
            click.echo("\t".join(map(printable, line)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads)
    for line in rows:
        table.add_row(*(Text(printable(cell)) for cell in line))
    Console().print(table)
