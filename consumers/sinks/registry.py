"""Every sink: its command, and whether a configuration asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from consumers.sinks.base import Sink
    from pipeline.kit.clock import Clock
    from pipeline.kit.settings import Settings
    from pipeline.kit.settings_base import Listener


@dataclass(frozen=True, slots=True)
class SinkRow:
    """One sink, a process of its own."""

    name: str
    summary: str
    entry: str
    """``module:class``, imported when it runs and made of the settings and a clock."""
    section: Callable[[Settings], Listener | None]
    """Its section of the configuration, with where ``/metrics`` is; None: not configured."""

    @property
    def process(self) -> str:
        """Return what the log calls it, and as what it is announced."""
        return f"sink-{self.name}"

    def make(self, settings: Settings, clock: Clock) -> Sink:
        """Return the sink; nothing is connected yet.

        Raises:
            ConfigError: The configuration is unusable.
        """
        module, _, name = self.entry.partition(":")
        made: Sink = getattr(import_module(module), name)(settings, clock)
        return made


SINKS: Final = (
    SinkRow(
        "postgres",
        "Store events, panes and observations in PostgreSQL or TimescaleDB.",
        "consumers.sinks.postgres:PostgresSink",
        lambda settings: settings.sinks.postgres,
    ),
)


def configured(settings: Settings) -> tuple[SinkRow, ...]:
    """Return the sinks that ``mailstream run`` starts."""
    return tuple(row for row in SINKS if row.section(settings) is not None)
