"""The tables of the sink: columns as they are filled, how they are partitioned, how long kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.core.pane import DAY_MS
from pipeline.kit.settings_sinks import PostgresRetention

WEEK_MS: Final = 7 * DAY_MS

EVENT_FIELDS: Final = (
    "received", "event_type", "source", "event_id", "feed", "origin", "direction", "is_dsn",
    "is_probe", "user", "login", "auth_user", "from_user", "from_domain", "from_address", "to_user",
    "to_domain", "to_hash", "sending_ip", "client_ip", "auth_method", "auth_result", "auth_scope",
    "mta_node", "zone", "mx_host", "mx_ip", "router", "transport", "message_id", "queue_id", "seq",
    "attempt", "response_code", "enhanced_status", "response_message", "error_code",
    "error_message", "delivery_time_ms", "queue_time_ms", "smtp_time_ms", "size_bytes",
    "recipients", "spam_score", "provider", "bounce_class", "bounce_category", "late", "route",
    "outcome", "failed_phase", "error_class", "folder",
)  # fmt: skip
"""Columns of ``email_events`` that are fields of an event under the same name."""

_METRIC: Final = ("time", "node", "metric", "labels", "value")


@dataclass(frozen=True, slots=True, eq=False)  # by identity: rows are grouped by their table
class Table:
    """One table with a column ``time``."""

    name: str
    kept: str
    """Its key in ``sinks.postgres.retention``."""
    columns: tuple[str, ...]
    length_ms: int = WEEK_MS
    """Of a partition; partitions begin at multiples of it since the epoch."""

    def retention_ms(self, retention: PostgresRetention) -> int:
        """Return how long rows are kept."""
        kept: int = getattr(retention, self.kept)
        return kept


EVENTS: Final = Table("email_events", "events", ("time", *EVENT_FIELDS, "extra"), DAY_MS)
PANES: Final = Table(
    "panes",
    "panes",
    (
        "time",
        "length_s",
        "family",
        "key",
        "event_type",
        "count",
        "recipients",
        "bytes",
        "delivery_ms_sum",
        "delivery_ms_buckets",
        "partial",
    ),
)
METRICS: Final = {
    what: Table(f"metrics_{what}", "metrics", _METRIC)
    for what in ("system", "zonemta", "mongodb", "redis", "wildduck", "haraka")
}
"""By what was looked at."""
OTHER_METRICS: Final = Table("metrics_other", "metrics", ("what", *_METRIC))
HEARTBEATS: Final = Table(
    "heartbeats",
    "metrics",
    ("time", "node", "role", "version", "boot_id", "last_seq", "buffered", "dropped_total"),
)
TABLES: Final = (EVENTS, PANES, *METRICS.values(), OTHER_METRICS, HEARTBEATS)
