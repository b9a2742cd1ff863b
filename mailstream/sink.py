"""One sink as a process: where its lanes, its ``/metrics`` and its life cycle meet."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from consumers.sinks.registry import SinkRow
from consumers.sinks.runner import SinkMetrics, parts
from pipeline.core.errors import ConfigError
from pipeline.kit import service
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings
from producers.monitor import Monitor


async def serve(row: SinkRow, settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Run a sink until told to stop (SIGTERM, SIGINT).

    Args:
        row: Which.
        settings: The whole configuration.
        bootstrap: Where Kafka is; it may be away, and so may the store.
        clock: The machine's.

    Raises:
        ConfigError: The configuration is unusable, or the store as it is.
        MailstreamError: The address is taken, or a part failed.
    """
    section = row.section(settings)
    if section is None:
        raise ConfigError([f"sinks.{row.name}: expected this section"])
    registry = CollectorRegistry()
    metrics = SinkMetrics(registry, row.process)
    sink = row.make(settings, clock)
    monitor = Monitor(settings, row.process, section, registry, metrics.health)
    running = parts(settings, bootstrap, sink, row.process, metrics, clock)
    await service.serve([monitor, *running])
