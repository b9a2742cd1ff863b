"""What the cPanel poller counts about itself; labels are configured servers and closed sets."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from pipeline.kit.telemetry import ComponentMetrics, Stage
from producers.sources.cpanel import search, stats
from producers.sources.cpanel.client import Trouble
from producers.sources.cpanel.rows import SOURCE


class Discard(StrEnum):
    """Why a row is not written."""

    DUPLICATE = "duplicate"
    """It was written before: polls overlap."""
    MALFORMED = "malformed"
    """It is no object."""
    TOO_LARGE = "too_large"


class Fault(StrEnum):
    """What fails beside the WHM servers."""

    KAFKA = "kafka"
    """Kafka is away, or refuses."""
    TAKEN = "taken"
    """Another process polls the same server."""
    BUG = "bug"


FUNCTIONS: Final = (search.FUNCTION, stats.FUNCTION)


class PollerMetrics:
    """The metrics of one poller process."""

    def __init__(self, registry: CollectorRegistry, servers: Iterable[str]) -> None:
        """Register in *registry*; every series of *servers* begins at 0."""
        self.component = ComponentMetrics(registry, SOURCE, Discard)
        self.up = Gauge(
            "mailstream_up",
            "1 if the last poll of the source succeeded.",
            ["source", "origin"],
            registry=registry,
        )
        self._last_success = _gauge(
            registry, "last_success_timestamp_seconds", "When a poll last succeeded."
        )
        self._duration = _gauge(registry, "poll_duration_seconds", "How long the last poll took.")
        self._newest = _gauge(
            registry,
            "newest_timestamp_seconds",
            "The newest delivery attempt that was written, by the server's clock.",
        )
        self._swept = _gauge(
            registry,
            "by_send_time",
            "1 if the server ignores the filter by attempt time, so that late outcomes are found by an hourly sweep only.",
        )
        self._seen = _gauge(
            registry, "seen_ids", "Ids remembered, so that no row is written twice."
        )
        self._omitted = _gauge(
            registry,
            "omitted_users",
            "Records of emailtrack_user_stats that are not shown: unusable, or more than max_users.",
        )
        self._requests = Counter(
            "mailstream_cpanel_requests_total",
            "Calls of WHM, by function.",
            ["origin", "function"],
            registry=registry,
        )
        self._errors = Counter(
            "mailstream_cpanel_errors_total",
            "Failed polls, by reason.",
            ["origin", "reason"],
            registry=registry,
        )
        self._rows = _counter(registry, "rows_total", "Rows written to Kafka.")
        self._duplicates = _counter(
            registry, "duplicates_total", "Rows that came again: polls overlap."
        )
        self._splits = _counter(
            registry, "splits_total", "Windows asked again in halves: the answer was incomplete."
        )
        self._overflows = Counter(
            "mailstream_cpanel_overflows_total",
            "Seconds with more rows than one answer holds: read page by page (paged), or cut short even so (incomplete), when rows may be missing.",
            ["origin", "outcome"],
            registry=registry,
        )
        self._unknown = _counter(
            registry,
            "unknown_fields_total",
            "Fields dropped because they are not on the allow-list.",
        )
        self._forgotten = _gauge(
            registry, "forgotten_ids", "Ids forgotten too early, to bound memory: rows may repeat."
        )
        self._markers = Counter(
            "mailstream_transaction_markers_mended_total",
            "Ends of transactions that Kafka had lost, and that were written again.",
            registry=registry,
        )
        for server in servers:
            self._begin(server)

    def _begin(self, server: str) -> None:
        self.up.labels(SOURCE, server).set(0)
        for metric in (self._rows, self._duplicates, self._splits, self._unknown):
            metric.labels(server)
        for outcome in ("paged", "incomplete"):
            self._overflows.labels(server, outcome)
        for reason in (*Trouble, *Fault):
            self._errors.labels(server, reason.value)
        for function in FUNCTIONS:
            self._requests.labels(server, function)

    def asked(self, server: str, function: str) -> None:
        """Count a call."""
        self._requests.labels(server, function).inc()

    def split(self, server: str) -> None:
        """Count a window that is asked again in halves."""
        self._splits.labels(server).inc()

    def overflowed(self, server: str, *, incomplete: bool) -> None:
        """Count a second that had to be read page by page."""
        self._overflows.labels(server, "incomplete" if incomplete else "paged").inc()

    def written(
        self, server: str, *, rows: int, duplicates: int, malformed: int, too_large: int
    ) -> None:
        """Count the rows of a window that is written."""
        self.component.received(rows + duplicates + malformed + too_large)
        self.component.sent(rows)
        self.component.discarded(Discard.DUPLICATE, duplicates)
        self.component.discarded(Discard.MALFORMED, malformed)
        self.component.discarded(Discard.TOO_LARGE, too_large)
        self._rows.labels(server).inc(rows)
        self._duplicates.labels(server).inc(duplicates)

    def dropped_fields(self, server: str, count: int) -> None:
        """Count fields that are not on the allow-list."""
        self._unknown.labels(server).inc(count)

    def stands(
        self, server: str, *, newest_s: int, by_send_time: bool, seen: int, forgotten: int
    ) -> None:
        """Show where the poller of *server* stands."""
        self._newest.labels(server).set(newest_s)
        self._swept.labels(server).set(by_send_time)
        self._seen.labels(server).set(seen)
        self._forgotten.labels(server).set(forgotten)

    def omitted(self, server: str, count: int) -> None:
        """Show how many records of the statistics are left out."""
        self._omitted.labels(server).set(count)

    def mended(self, count: int) -> None:
        """Count lost markers that were written."""
        self._markers.inc(count)

    def succeeded(self, server: str, now_ms: int) -> None:
        """Note a poll that succeeded."""
        self.up.labels(SOURCE, server).set(1)
        self._last_success.labels(server).set(now_ms / 1000)
        self.component.succeeded(now_ms)

    def failed(self, server: str, reason: Trouble | Fault) -> None:
        """Count a poll that failed."""
        self.up.labels(SOURCE, server).set(0)
        self._errors.labels(server, reason.value).inc()
        stage = Stage.RECEIVING if isinstance(reason, Trouble) else Stage.SENDING
        self.component.failed(reason, stage)

    def took(self, server: str, seconds: float) -> None:
        """Show how long a poll took."""
        self._duration.labels(server).set(seconds)


def _gauge(registry: CollectorRegistry, name: str, words: str) -> Gauge:
    return Gauge(f"mailstream_cpanel_{name}", words, ["origin"], registry=registry)


def _counter(registry: CollectorRegistry, name: str, words: str) -> Counter:
    return Counter(f"mailstream_cpanel_{name}", words, ["origin"], registry=registry)
