"""The command line: what each command needs is imported when it runs.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.  An expected error is one sentence
on standard error, never a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from mailstream.commands import (
    broker,
    classify,
    configuration,
    dead,
    probe,
    replay,
    running,
    tail,
)
from mailstream.commands.common import FAILED, WRONG, configurable
from pipeline.core.errors import ConfigError, MailstreamError

COMMANDS: Final = (
    running.run,
    running.demo,
    broker.kafka,
    broker.topics,
    running.worker,
    running.produce,
    probe.probe,
    tail.tail,
    dead.dead,
    replay.replay,
    classify.classify,
    configuration.config,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mailstream", message="%(prog)s %(version)s")
@configurable
def cli() -> None:
    """Exact windowed metrics from mail events, on Kafka."""


for _command in COMMANDS:
    cli.add_command(_command)


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
