"""``config``: check the configuration, or print an example."""

from __future__ import annotations

import click

from mailstream.commands.common import configurable, settings


@click.group()
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
