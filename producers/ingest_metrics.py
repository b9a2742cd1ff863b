"""What the ingest service counts, every label bounded.

For events, observations and heartbeats: received = sent + discarded, where ``unavailable`` counts those that Kafka did not
acknowledge.  A body that is refused as a whole has no countable events; it is one error.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline.core.errors import Reason
from pipeline.kit.telemetry import ComponentMetrics, Stage
from producers.gelf.records import Drop
from producers.posting import Post, Sender

_BOUNDS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


class Content(StrEnum):
    """What a post holds."""

    EVENTS = "events"
    OBSERVATIONS = "observations"
    HEARTBEATS = "heartbeats"


class Refusal(StrEnum):
    """Why a whole post is refused, beside the reasons that one event may have."""

    UNAVAILABLE = "unavailable"
    """Kafka is away, does not acknowledge, or has no room; or our own memory is full."""
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    UNKNOWN_SOURCE = "unknown_source"
    UNSUPPORTED = "unsupported"
    SLOW = "slow"


class IngestMetrics:
    """The metrics of one ingest service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register in *registry*."""
        self.component = ComponentMetrics(registry, "ingest", (*Reason, *Refusal, *Drop))
        self._acknowledged = {
            content: Counter(
                f"mailstream_ingest_{content.value}_total",
                f"{content.value.capitalize()} acknowledged by Kafka, by source and API key.",
                ["source", "origin"],
                registry=registry,
            )
            for content in Content
        }
        self._rejected = Counter(
            "mailstream_ingest_rejected_events_total",
            "Events and observations that could not be used, by source and reason.",
            ["source", "reason"],
            registry=registry,
        )
        self._unknown = Counter(
            "mailstream_ingest_unknown_fields_total",
            "Fields dropped because they are not on the allow-list, by source.",
            ["source"],
            registry=registry,
        )
        self._redacted = Counter(
            "mailstream_ingest_redacted_events_total",
            "Events in which privacy replaced an address or another personal value.",
            registry=registry,
        )
        self.requests = Counter(
            "mailstream_ingest_requests_total",
            "HTTP requests answered, by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "mailstream_ingest_request_seconds",
            "Time to answer a request, by route.",
            ["route"],
            buckets=_BOUNDS_S,
            registry=registry,
        )
        self.buffer_bytes = Gauge(
            "mailstream_ingest_buffer_bytes",
            "Bytes held until Kafka acknowledges them.",
            registry=registry,
        )
        self.buffer_limit_bytes = Gauge(
            "mailstream_ingest_buffer_limit_bytes",
            "Most bytes that are held before posts are refused.",
            registry=registry,
        )
        self.reading_bytes = Gauge(
            "mailstream_ingest_reading_bytes",
            "Bytes of request bodies that are held until they are records.",
            registry=registry,
        )

    def dropped(self, sender: Sender, *, unknown_fields: int, redacted: int) -> None:
        """Count what was left out of the events of one post."""
        if unknown_fields:
            self._unknown.labels(sender.source).inc(unknown_fields)
        if redacted:
            self._redacted.inc(redacted)

    def acknowledged(self, content: Content, post: Post, now_ms: int) -> None:
        """Count what Kafka acknowledged of a post."""
        self._received(post)
        if post.written:
            self.component.sent(post.written)
            self._acknowledged[content].labels(*post.sender).inc(post.written)
        self.component.succeeded(now_ms)

    def unacknowledged(self, post: Post) -> None:
        """Count what Kafka did not acknowledge of a post."""
        self._received(post)
        self.component.discarded(Refusal.UNAVAILABLE, post.written)
        self.component.failed(Refusal.UNAVAILABLE, Stage.SENDING)

    def refused(self, reason: StrEnum) -> None:
        """Count a post that is refused as a whole, before its events are known."""
        self.component.failed(reason, Stage.RECEIVING)

    def _received(self, post: Post) -> None:
        self.component.received(post.written + sum(post.discarded.values()))
        for reason, count in post.discarded.items():
            self.component.discarded(reason, count)
        for item in post.rejected:
            self._rejected.labels(post.sender.source, item.error.reason.value).inc()
