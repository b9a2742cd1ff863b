"""The routes of the ingest service that are about machines: observations, and heartbeats of senders."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.kit.clock import Clock
from pipeline.kit.settings import SENDERS, Settings
from producers.ingest_metrics import Content
from producers.intake import Intake, Route
from producers.node_records import NodeRecords, posted_heartbeat, posted_observations
from producers.posting import Sender
from producers.sender_numbers import SenderNumbers

NODES: Final = "/api/v1/nodes"
METRICS: Final = "/api/v1/metrics"

_SLICE: Final = 20
"""Observations checked before others have their turn: up to 100,000 numbers, in the worst case."""

_LABELS: Final = ("source", "origin")


class NodeRoutes:
    """What heartbeats and observations become."""

    def __init__(self, settings: Settings, intake: Intake, clock: Clock) -> None:
        """Take them through *intake*."""
        self._settings = settings
        self._intake = intake
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        """Return the routes."""
        return (
            Route(NODES, Content.HEARTBEATS, self._heartbeat, sources=SENDERS),
            Route(METRICS, Content.OBSERVATIONS, self._observations, batch=True, sources=SENDERS),
        )

    def _records(self, sender: Sender) -> NodeRecords:
        topics = self._settings.topics
        return NodeRecords(sender, topics.names, topics.partitions, self._clock.now_ms())

    async def _heartbeat(self, body: bytes, sender: Sender) -> NodeRecords:
        told = posted_heartbeat(body)
        records = self._records(sender)
        records.add(told)
        # Noted before Kafka has it: what a sender says of itself is true all the same.
        self._intake.numbers.heartbeat(*sender, told, self._clock.now_ms())
        return records

    async def _observations(self, body: bytes, sender: Sender) -> NodeRecords:
        items = posted_observations(body, self._settings.ingest.max_batch_events)
        records = self._records(sender)
        for first in range(0, len(items), _SLICE):
            records.take(items[first : first + _SLICE], first)
            await asyncio.sleep(0)
        return records


class SenderCollector(Collector):
    """What heartbeats say about the senders of events, as metrics."""

    def __init__(self, numbers: SenderNumbers, clock: Clock) -> None:
        """Show *numbers*."""
        self._numbers = numbers
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        buffered = GaugeMetricFamily(
            "mailstream_sender_buffered_events",
            "Events that senders hold, in memory and on disk, as their heartbeats of the last minute say.",
            labels=_LABELS,
        )
        dropped = CounterMetricFamily(
            "mailstream_sender_dropped_events_total",
            "Events that senders gave up, as their heartbeats say.",
            labels=_LABELS,
        )
        missing = CounterMetricFamily(
            "mailstream_sender_missing_events_total",
            "Numbers of events that are neither acknowledged, nor held, nor given up by their sender.",
            labels=_LABELS,
        )
        heard = GaugeMetricFamily(
            "mailstream_last_heartbeat_timestamp_seconds",
            "When a sender's last heartbeat came, seconds since the epoch.",
            labels=_LABELS,
        )
        for key, sums in self._numbers.sums(self._clock.now_ms()):
            buffered.add_metric(key, sums.buffered)
            dropped.add_metric(key, sums.dropped)
            missing.add_metric(key, sums.missing)
            heard.add_metric(key, sums.heard_ms / 1000)
        return (buffered, dropped, missing, heard)
