"""Every metric of the worker as declared data: the collector, the docs and the tests read it.

The windows come from the table of families, counters and histograms of mail from the tally; what
the pipeline says about itself is declared here.  ``python -m pipeline.export.catalogue`` prints
the tables of ``docs/metrics.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.core.families import FAMILIES, Family
from pipeline.core.tally import BOUNDS_SECONDS, COUNTERS, HISTOGRAMS

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it is shown."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


PIPELINE: Final = (
    Metric(
        "mailstream_windows_complete",
        "gauge",
        ("window",),
        "1 if the window holds everything up to 30 s ago; 0 while partitions re-fold, while the "
        "delay is above 30 s, and when no partition is assigned or the worker left its group.",
    ),
    Metric(
        "mailstream_last_received_timestamp_seconds",
        "gauge",
        ("source", "origin"),
        "When the newest record of an origin was received, seconds since the epoch; 0 with an "
        "empty source for an expected origin that this worker has not heard of.",
    ),
    Metric(
        "mailstream_last_event_timestamp_seconds",
        "gauge",
        ("source", "origin"),
        "When the newest event of an origin happened, seconds since the epoch.",
    ),
    Metric(
        "mailstream_event_delay_seconds",
        "gauge",
        ("source", "origin"),
        "Time from happening to being received of the newest event of an origin.",
    ),
    Metric(
        "mailstream_delay_seconds",
        "gauge",
        (),
        "How far the worker is behind: now minus the time received of the newest commit while "
        "records wait, 0 when none do.",
    ),
    Metric(
        "mailstream_lag",
        "gauge",
        ("topic", "partition"),
        "Records not yet read: high watermark minus position.",
    ),
    Metric(
        "mailstream_unstable_records",
        "gauge",
        ("topic", "partition"),
        "Records hidden by open transactions: high watermark minus last stable offset.",
    ),
    Metric(
        "mailstream_partitions_stopped",
        "gauge",
        (),
        "Assigned partitions that stopped for good and need an operator; see /health.",
    ),
    Metric(
        "mail_user_anomaly_score",
        "gauge",
        ("user",),
        "How near an account is to an alert: the highest of value over limit in the open 5 min pane and "
        "the one before, 1 or more is out of the ordinary; of each worker the 100 highest.",
    ),
    Metric(
        "mailstream_keys_folded",
        "gauge",
        ("family",),
        "Keys of a family that have no name of their own and are summed under _other.",
    ),
    Metric(
        "mailstream_distinct_capped",
        "gauge",
        ("family",),
        "Keys of a family that have more than 1000 distinct values of a field in a window; they are "
        "shown as 1000.",
    ),
    Metric(
        "mailstream_refold_seconds",
        "gauge",
        (),
        "Time that the last re-fold of a partition took, the longest of the assigned ones.",
    ),
    Metric(
        "mailstream_dedupe_horizon_seconds",
        "gauge",
        (),
        "How far back event ids are remembered; shorter than configured when too many came.",
    ),
    Metric("mailstream_dedupe_ids", "gauge", (), "Event ids that are remembered."),
    Metric(
        "mailstream_transaction_seconds",
        "histogram",
        (),
        "Time that committing one batch in a Kafka transaction took.",
    ),
    Metric("mailstream_batch_events", "histogram", (), "Events per committed batch."),
    Metric("mailstream_transactions_total", "counter", (), "Kafka transactions committed."),
    Metric(
        "mailstream_transactions_failed_total",
        "counter",
        (),
        "Kafka transactions aborted or fenced; their batches are read again.",
    ),
    Metric(
        "mailstream_transaction_markers_mended_total",
        "counter",
        (),
        "Ends of transactions that Kafka lost when a partition had no leader, written again before "
        "the partition was opened.",
    ),
    Metric("mailstream_rebalances_total", "counter", (), "Changes of the assigned partitions."),
    Metric(
        "mailstream_poison_records_total",
        "counter",
        (),
        "Records on which the pipeline failed by a fault of its own; kept in the dead letters.",
    ),
    Metric("mailstream_refolded_rows_total", "counter", (), "Delta rows read by re-folds."),
    Metric(
        "mailstream_panes_published_total",
        "counter",
        (),
        "Records of closed panes written to mail.panes.",
    ),
    Metric(
        "mailstream_panes_lost_total",
        "counter",
        (),
        "Records of mail.rollups that were deleted, or could not be read, before the closed panes in "
        "them were published.",
    ),
    Metric("mailstream_build_info", "gauge", ("version",), "1; the version is the label."),
)
"""What the pipeline says about itself."""

PIPELINE_METRIC: Final = {metric.name: metric for metric in PIPELINE}

_WINDOWS_TEXT: Final = (
    "Sliding-window gauges. `window` is one of `pipeline.windows` (1m, 5m, 1h, 24h). A series shows 0 "
    "for one scrape after its window empties, then goes. The most active `pipeline.top_keys` keys "
    "of a family keep their name; the rest are summed under `_other`, so that a family's sum is "
    "always the whole. A key lives on one worker: `sum` over workers is the whole, `topk` over "
    "them the global top. `/metrics?name[]=mailstream_lag` shows chosen metrics alone; a scrape "
    "without a window's family uses up no zero of it.\n\nThe families are {families}; "
    "`pipeline.families_off` names those that are not wanted. `pipeline.dimensions` adds counts, e.g. "
    "`{{zone_class: [zone, bounce_class]}}` the gauge `mail_zone_class_events` with the labels `window`, `zone`, "
    "`bounce_class` and `event_type`: of customer mail, or of all mail where `direction` is one of the "
    "fields. An event that lacks a field adds nothing and is counted in "
    "`mail_events_unattributed_total`. All workers need the same families: a worker counts for the others."
)
_TALLY_TEXT: Final = (
    "Cumulative from the start of the process, for `rate()` and `histogram_quantile()`; exact "
    "figures are the windows'. Buckets in seconds: {bounds}. `mail_failures_total` has type "
    "`unknown` in OpenMetrics, where a counter may not share its name with the gauge "
    "`mail_failures`."
)
_PIPELINE_TEXT: Final = (
    "`mailstream_windows_complete` says whether the windows can be trusted. An expected origin is "
    "heard of by one worker only: ask with "
    "`max by (origin) (mailstream_last_received_timestamp_seconds)`. Beside these the worker "
    "shows `process_*` and `python_*`."
)


def window_metrics() -> Iterator[Metric]:
    """Yield the sliding-window gauges and the last-event gauges, in the order of the families."""
    for family in FAMILIES:
        yield from metrics_of(family)


def metrics_of(family: Family) -> Iterator[Metric]:
    """Yield the gauges of one family."""
    for export in family.exports:
        labels = ("window", *family.labels)
        if export.by_event_type:
            labels = (*labels, "event_type")
        yield Metric(export.metric, "gauge", labels, export.help)
    for distinct in family.distincts:
        yield Metric(distinct.metric, "gauge", ("window", *family.labels), distinct.help)
    if family.last_event is not None:
        kind = ("event_type",) if family.last_event_by_type else ()
        labels = (*family.labels, *kind)
        yield Metric(family.last_event, "gauge", labels, family.last_event_help)


def tally_metrics() -> Iterator[Metric]:
    """Yield the counters and histograms of phase 1."""
    for counter in COUNTERS:
        yield Metric(counter.name, "counter", counter.labels, counter.help)
    for histogram in HISTOGRAMS:
        yield Metric(histogram.name, "histogram", histogram.labels, histogram.help)


def documentation() -> str:
    """Return the tables of ``docs/metrics.md``."""
    names = ", ".join(f"`{family.name}`" for family in FAMILIES)
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS_SECONDS)
    sections = (
        ("## Windows", _WINDOWS_TEXT.format(families=names), window_metrics()),
        ("## Counters and histograms", _TALLY_TEXT.format(bounds=bounds), tally_metrics()),
        ("## The pipeline itself", _PIPELINE_TEXT, PIPELINE),
    )
    parts = ["# Metrics of the worker", "Generated from the tables in the code."]
    for title, text, metrics in sections:
        parts += [title, text, _table(metrics)]
    return "\n\n".join(parts) + "\n"


def _table(metrics: Iterable[Metric]) -> str:
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{metric.name}` | {metric.kind} | {_quoted(metric.labels)} | {metric.help} |"
        for metric in metrics
    ]
    return "\n".join(lines)


def _quoted(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


if __name__ == "__main__":
    sys.stdout.write(documentation())
