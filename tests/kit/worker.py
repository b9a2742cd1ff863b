"""A worker without Kafka: the parts that its HTTP service reads, filled by hand.

``python -m tests.kit.worker`` prints the page that ``tests/golden/metrics.prom`` holds.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.core.batch import TopicPartition
from pipeline.core.engine_stats import EngineStats, OriginTimes, PartitionStats
from pipeline.core.tally import BOUNDS_SECONDS, COUNTERS, HISTOGRAMS, Tally
from pipeline.detect.alerts import Kind
from pipeline.export.page import Exporter
from pipeline.fold.board import Board
from pipeline.kit.settings import PipelineSettings, Settings
from tests.kit.clock import FakeClock
from tests.kit.frames import Row, frame

NOW = 1_700_000_000_000
DELTAS = "mail.deltas"
RAW = "mail.raw.zonemta"
SESSION_MS = 10_000
WINDOWS = (60_000, 300_000, 3_600_000)


class Anomalies:
    """What anomaly detection would show; nothing until it is set."""

    def __init__(self) -> None:
        self.shown: dict[str, float] = {}
        self.open: dict[Kind, set[str]] = {}

    def scores(self) -> Mapping[str, float]:
        return self.shown

    def open_keys(self, kind: Kind) -> Collection[str]:
        return self.open.get(kind, ())


class Worker:
    """One worker's board, tally, engine numbers, clock and exporter."""

    def __init__(self, partitions: int = 1, top_keys: int = 500, **settings: Any) -> None:
        """Assign and complete the first *partitions* of the deltas; the clock shows :data:`NOW`."""
        pipeline = {"windows": WINDOWS, **settings.pop("pipeline", {})}
        self.settings = Settings(
            pipeline=PipelineSettings(top_keys=top_keys, **pipeline), **settings
        )
        self.clock = FakeClock(NOW)
        families = self.settings.pipeline.families
        self.board = Board(self.settings.pipeline.windows, families)
        self.tally = Tally()
        self.stats = EngineStats(SESSION_MS, last_heartbeat_ms=NOW, rebalances=1)
        for partition in range(partitions):
            self.assign(DELTAS, partition).ready = True
            self.board.open(partition)
            self.board.complete(partition)
        self.anomalies = Anomalies()
        self.exporter = Exporter(
            self.settings,
            self.board,
            self.tally,
            self.stats,
            self.clock,
            "0.1.0",
            self.anomalies,
        )

    def assign(self, topic: str, partition: int) -> PartitionStats:
        """Assign a partition that is not ready."""
        tp = TopicPartition(topic, partition)
        self.stats.partitions[tp] = PartitionStats(tp)
        return self.stats.partitions[tp]

    def fold(self, partition: int = 0, **rows: Sequence[Row]) -> None:
        """Fold rows by family name."""
        now_ms = self.clock.now_ms()
        self.board.fold(partition, [frame(rows, watermark_ms=now_ms)], now_ms)

    def pass_time(self, by_ms: int) -> None:
        """Let time pass with heartbeats going on."""
        self.clock.set(self.clock.now_ms() + by_ms)
        self.stats.last_heartbeat_ms = self.clock.now_ms()

    def page(self, accept: str = "", *names: str) -> str:
        """Return what a scrape reads."""
        return asyncio.run(self.exporter.page(accept, frozenset(names))).body.decode()

    def samples(self, metric: str) -> dict[str, float]:
        """Scrape, and return the values of a metric by the text between the braces."""
        found = {}
        for line in self.page().split("\n"):
            name, brace, rest = line.partition("{")
            if name == metric and brace:
                labels, _, value = rest.rpartition("} ")
                found[labels] = float(value)
            elif line.startswith(f"{metric} "):
                found[""] = float(line.split(" ")[1])
        return found


def golden_worker() -> Worker:
    """Return a worker that shows something of every metric."""
    worker = Worker(2, top_keys=2, expected_origins=("mta1", "mta2"))
    ten, ip, host = NOW - 10_000, "192.0.2.1", 'quo"te\\back\nline\u00e9'
    values = {"destinations": ("gmail.com", "a.example"), "client_ips": ("198.51.100.7",)}
    sent = Row(("ann@a.example",), "sent", ten, 3, 5, 9000, values)
    bounced = "bounced"
    worker.fold(
        user=[sent, Row(("bob@b.example",), "sent", NOW - 600_000, 2, 2, 10)]
        + [
            Row((f"u{n}@c.example",), "delivered", NOW, values={"destinations": ("gmail.com",)})
            for n in range(3)
        ],
        user_auth_method=[Row(("ann@a.example", "PLAIN"), "sent", ten, 3)],
        ip=[Row((ip,), "delivered", ten, 7), Row((ip,), bounced, ten)],
        ip_provider=[Row((ip, name), "delivered", NOW) for name in ("google", "other", "yahoo")],
        failure=[Row(("none", "google", "spam"), "deferred", NOW)],
        node=[Row((host, "none", "outbound"), "sent", ten)],
    )
    worker.fold(
        1,
        domain=[Row(("a.example",), "sent", ten)],
        destination=[Row(("gmail.com",), "delivered", NOW - 3_000_000)],
        destination_failure=[
            Row(("gmail.com", "spam"), kind, NOW) for kind in ("deferred", bounced)
        ],
        client_ip=[Row(("198.51.100.7", "outbound"), "sent", ten)],
        user_auth=[
            Row(("ann@a.example", "succeeded", "imap"), "auth_succeeded", ten),
            Row(("_unknown", "failed", "smtp"), "auth_failed", NOW, 5),
        ],
        client_ip_auth=[
            Row(("198.51.100.9", "failed", "none"), "auth_failed", NOW, 5),
            Row(("198.51.100.9", "succeeded", "none"), "auth_succeeded", NOW, 2),
        ],
        user_auth_result=[
            Row(
                ("ann@a.example", "succeeded"),
                "auth_succeeded",
                ten,
                1,
                values={"client_ips": ("198.51.100.7",)},
            ),
            Row(
                ("_unknown", "failed"),
                "auth_failed",
                NOW,
                5,
                values={"client_ips": ("198.51.100.9",)},
            ),
        ],
        client_ip_auth_result=[
            Row(
                ("198.51.100.9", "failed"), "auth_failed", NOW, 5, values={"users": ("a", "b", "c")}
            )
        ],
        route=[
            Row(("own-to-gmail", "probe1", outcome), "probe", ten, 2)
            for outcome in ("inbox", "lost")
        ],
        route_success=[Row(("own-to-gmail", "probe1"), "probe", ten, 2)],
    )
    worker.anomalies.shown = {"ann@a.example": 1.5}
    fill_tally(worker.tally)
    fill_stats(worker)
    return worker


LABELS = {
    "source": "zonemta",
    "event_type": "bounced",
    "direction": "outbound",
    "ip": "192.0.2.1",
    "provider": "google",
    "bounce_class": "spam",
    "reason": "malformed",
    "fingerprint": "550 5.9.9 not today <ip>",
    "family": "user",
    "route": "own-to-gmail",
    "origin": "probe1",
}


def fill_tally(tally: Tally) -> None:
    """Count something in every counter and histogram."""
    for counter in COUNTERS:
        tally.add(counter.name, {tuple(LABELS[label] for label in counter.labels): 3})
    buckets = np.arange(len(BOUNDS_SECONDS) + 1)
    for histogram in HISTOGRAMS:
        labels = tuple(LABELS[label] for label in histogram.labels)
        tally.observe(histogram.name, labels, buckets, 12.5)


def fill_stats(worker: Worker) -> None:
    """Give the engine's numbers values that differ."""
    stats = worker.stats
    source = worker.assign(RAW, 0)
    source.ready, source.position, source.high_watermark = True, 90, 100
    source.last_stable_offset = 98
    stats.origins["zonemta", "mta1"] = OriginTimes(NOW - 2000, NOW - 3500, 1500)
    stats.last_commit_ms, source.received_ms = NOW - 1000, NOW - 1500
    for seconds in (0.004, 0.03, 20.0):
        stats.transaction_s.observe(seconds)
        stats.batch_events.observe(seconds * 1000)
    stats.refold_s = {0: 1.5, 1: 2.25}
    stats.refolded_rows, stats.transactions, stats.transactions_failed = 1234, 3, 1
    stats.panes_published, stats.panes_lost = 300, 4
    stats.rebalances, stats.poison_records, stats.markers_mended = 2, 1, 7
    stats.dedupe_horizon_s, stats.dedupe_ids = 21600.0, 77


def without_process(page: str) -> str:
    """Return a page without what prometheus_client tells of the process."""
    kept = [
        line
        for line in page.split("\n")
        if not line.removeprefix("# HELP ")
        .removeprefix("# TYPE ")
        .startswith(("process_", "python_"))
    ]
    return "\n".join(kept)


if __name__ == "__main__":
    sys.stdout.write(without_process(golden_worker().page()))
