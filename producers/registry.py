"""Every producer: its command, what it does, and whether a configuration asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pipeline.kit.clock import Clock
    from pipeline.kit.settings import Settings


@dataclass(frozen=True, slots=True)
class Producer:
    """One producer, a process of its own."""

    name: str
    """Of the command, in the log, and as announced."""
    summary: str
    entry: str
    """``module:function``, imported when it runs; takes and raises what :meth:`serve` does."""
    is_configured: Callable[[Settings], bool]
    needs_kafka: Callable[[Settings], bool] = lambda _settings: True
    """Whether it writes to Kafka itself."""

    def serve(self, settings: Settings, bootstrap: str, clock: Clock) -> Awaitable[None]:
        """Run it until SIGTERM or SIGINT.

        Args:
            settings: The whole configuration.
            bootstrap: Where Kafka is, which may be away; empty if it needs none.
            clock: The machine's.

        Raises:
            ConfigError: The configuration is unusable, or it is off.
            MailstreamError: An address is taken, its spool cannot be used, or a part failed.
        """
        module, _, function = self.entry.partition(":")
        running: Awaitable[None] = getattr(import_module(module), function)(
            settings, bootstrap, clock
        )
        return running


PRODUCERS: Final = (
    Producer(
        "ingest",
        "Take events over HTTP and write them to Kafka.",
        "producers.sources.hooks:serve",
        lambda _settings: True,
    ),
    Producer(
        "cpanel",
        "Poll cPanel/WHM servers and write to Kafka.",
        "producers.sources.cpanel.service:serve",
        lambda settings: bool(settings.cpanel.servers),
    ),
    Producer(
        "gelf",
        "Take GELF about mail and logins over UDP and TCP.",
        "producers.sources.gelf.service:serve",
        lambda settings: settings.gelf.is_on,
    ),
    Producer(
        "nodes",
        "Look at this machine, MongoDB, Redis, WildDuck and ZoneMTA.",
        "producers.sources.nodes.agent:serve",
        lambda settings: settings.node_agent is not None,
        lambda settings: settings.nodes is None or settings.nodes.post_to is None,
    ),
    Producer(
        "log-remote",
        "Take entries of ZoneMTA's log over UDP.",
        "producers.sources.log_remote.service:serve",
        lambda settings: settings.log_remote is not None,
    ),
    Producer(
        "probe",
        "Send mail on each route and look for it.",
        "producers.sources.probe.service:serve",
        lambda settings: settings.probe.config is not None,
        lambda settings: bool(settings.probe.config or settings.kafka.bootstrap_servers),
    ),
)


def configured(settings: Settings) -> tuple[Producer, ...]:
    """Return the producers that ``mailstream run`` starts."""
    return tuple(producer for producer in PRODUCERS if producer.is_configured(settings))
