"""What the engine knows about itself: written by the transport, shown by the exporter.

One instance per worker.  Plain numbers, no I/O.  All times are ms since the epoch unless said.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from pipeline.core.batch import TopicPartition

TRANSACTION_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BOUNDS: Final = (1.0, 10.0, 100.0, 500.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0)


class Distribution:
    """A cumulative histogram in plain numbers."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Use *bounds* as inclusive upper edges; one more bucket is +Inf."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class PartitionStats:
    """One assigned partition."""

    tp: TopicPartition
    ready: bool = False
    """Open (source) or completely folded (deltas)."""
    position: int = 0
    high_watermark: int = 0
    last_stable_offset: int = 0
    received_ms: int = 0
    """Of a source: highest ``received`` that this worker has committed, 0 before it has."""
    stopped: str | None = None
    """Why the partition stopped for good, if it did: a sentence for the operator."""


@dataclass(slots=True)
class OriginTimes:
    """The newest times of one (source, origin)."""

    received_ms: int = 0
    event_ms: int = 0
    delay_ms: int = 0
    """``received - timestamp`` of the newest event."""


@dataclass(slots=True)
class EngineStats:
    """One worker's engine."""

    session_timeout_ms: int
    partitions: dict[TopicPartition, PartitionStats] = field(default_factory=dict)
    origins: dict[tuple[str, str], OriginTimes] = field(default_factory=dict)
    last_heartbeat_ms: int = 0
    """The newest successful heartbeat of the group member."""
    last_commit_ms: int = 0
    transaction_s: Distribution = field(default_factory=lambda: Distribution(TRANSACTION_BOUNDS_S))
    batch_events: Distribution = field(default_factory=lambda: Distribution(BATCH_BOUNDS))
    refold_s: dict[int, float] = field(default_factory=dict)
    """Seconds that the last re-fold of each ``mail.deltas`` partition took."""
    refolded_rows: int = 0
    transactions: int = 0
    transactions_failed: int = 0
    markers_mended: int = 0
    """Ends of transactions that Kafka had lost, by partition, and that were written again."""
    rebalances: int = 0
    poison_records: int = 0
    """Records on which the pure part raised: bugs of ours, dead-lettered."""
    panes_published: int = 0
    """Records of closed panes that were written for consumers."""
    panes_lost: int = 0
    """Frames of closed panes, or other roll-ups with them, that were gone before they were published."""
    dedupe_horizon_s: float = 0.0
    dedupe_ids: int = 0
