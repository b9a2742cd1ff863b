"""The worker's metrics apart from the windows, as a prometheus_client collector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from pipeline.core.engine_stats import Distribution, EngineStats
from pipeline.core.pane import window_label
from pipeline.core.tally import BOUNDS_SECONDS, COUNTERS, HISTOGRAMS, Tally
from pipeline.export.catalogue import PIPELINE_METRIC
from pipeline.export.freshness import Freshness

_Labelled = Iterable[tuple[Sequence[str], float]]


class PipelineCollector(Collector):
    """Shows the tally of phase 1 and the engine's numbers at each scrape."""

    def __init__(
        self,
        tally: Tally,
        stats: EngineStats,
        freshness: Freshness,
        *,
        windows_ms: Sequence[int],
        expected_origins: Sequence[str],
        version: str,
        now_ms: Callable[[], int],
        scores: Callable[[], Mapping[str, float]],
        complete: Callable[[], bool],
        folded: Callable[[], Mapping[str, int]],
        capped: Callable[[], Mapping[str, int]],
    ) -> None:
        """Read these at each scrape.

        Args:
            tally: Counters and histograms of phase 1.
            stats: The engine's numbers.
            freshness: What they mean for the windows.
            windows_ms: The windows shown.
            expected_origins: Origins that have a series before they are heard of.
            version: Of the program.
            now_ms: The wall clock.
            scores: How near accounts are to an alert.
            complete: Whether the windows of the same page can be trusted.
            folded: Keys under ``_other`` by family.
            capped: Keys with more distinct values than are counted, by family.
        """
        self._tally = tally
        self._stats = stats
        self._freshness = freshness
        self._windows = [window_label(window) for window in windows_ms]
        self._expected = tuple(expected_origins)
        self._version = version
        self._now_ms = now_ms
        self._scores = scores
        self._complete = complete
        self._folded = folded
        self._capped = capped

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names must not be collected before the engine runs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family, those without samples too, so that each name is documented."""
        yield from self._of_windows()
        yield from self._of_origins()
        yield from self._of_partitions()
        yield from self._of_engine()
        yield from self._of_tally()

    def _of_windows(self) -> Iterator[Metric]:
        now_ms = self._now_ms()
        self._freshness.observe(now_ms)
        complete = float(self._complete())
        yield _gauge(
            "mailstream_windows_complete", [((window,), complete) for window in self._windows]
        )
        yield _single("mailstream_delay_seconds", self._freshness.delay_ms(now_ms) / 1000)
        yield _single("mailstream_partitions_stopped", len(self._freshness.stopped()))
        scores = self._scores()
        yield _gauge("mail_user_anomaly_score", [((user,), one) for user, one in scores.items()])
        folded = self._folded()
        yield _gauge("mailstream_keys_folded", [((name,), keys) for name, keys in folded.items()])
        capped = self._capped()
        yield _gauge(
            "mailstream_distinct_capped", [((name,), keys) for name, keys in capped.items()]
        )

    def _of_origins(self) -> Iterator[Metric]:
        origins = self._stats.origins
        heard = {origin for _, origin in origins}
        received = [(key, times.received_ms / 1000) for key, times in origins.items()]
        received += [(("", name), 0.0) for name in self._expected if name not in heard]
        yield _gauge("mailstream_last_received_timestamp_seconds", received)
        yield _gauge(
            "mailstream_last_event_timestamp_seconds",
            [(key, times.event_ms / 1000) for key, times in origins.items()],
        )
        yield _gauge(
            "mailstream_event_delay_seconds",
            [(key, times.delay_ms / 1000) for key, times in origins.items()],
        )

    def _of_partitions(self) -> Iterator[Metric]:
        lag, unstable = [], []
        for tp, held in sorted(self._stats.partitions.items()):
            labels = (tp.topic, str(tp.partition))
            lag.append((labels, max(0, held.high_watermark - held.position)))
            unstable.append((labels, max(0, held.high_watermark - held.last_stable_offset)))
        yield _gauge("mailstream_lag", lag)
        yield _gauge("mailstream_unstable_records", unstable)

    def _of_engine(self) -> Iterator[Metric]:
        stats = self._stats
        yield _single("mailstream_refold_seconds", max(stats.refold_s.values(), default=0.0))
        yield _single("mailstream_dedupe_horizon_seconds", stats.dedupe_horizon_s)
        yield _single("mailstream_dedupe_ids", stats.dedupe_ids)
        yield _distribution("mailstream_transaction_seconds", stats.transaction_s)
        yield _distribution("mailstream_batch_events", stats.batch_events)
        for name, count in (
            ("mailstream_transactions_total", stats.transactions),
            ("mailstream_transactions_failed_total", stats.transactions_failed),
            ("mailstream_transaction_markers_mended_total", stats.markers_mended),
            ("mailstream_rebalances_total", stats.rebalances),
            ("mailstream_poison_records_total", stats.poison_records),
            ("mailstream_refolded_rows_total", stats.refolded_rows),
            ("mailstream_panes_published_total", stats.panes_published),
            ("mailstream_panes_lost_total", stats.panes_lost),
        ):
            yield _counter(name, PIPELINE_METRIC[name].help, (), [((), count)])
        yield _gauge("mailstream_build_info", [((self._version,), 1.0)])

    def _of_tally(self) -> Iterator[Metric]:
        for declared in COUNTERS:
            counted = self._tally.counters[declared.name].items()
            yield _counter(declared.name, declared.help, declared.labels, counted)
        for histogram in HISTOGRAMS:
            family = HistogramMetricFamily(histogram.name, histogram.help, labels=histogram.labels)
            for labels, (counts, total_s) in self._tally.histograms[histogram.name].items():
                buckets = _buckets(BOUNDS_SECONDS, counts.tolist())
                family.add_metric(labels, buckets, sum_value=total_s)
            yield family


def worker_registry(collector: PipelineCollector) -> CollectorRegistry:
    """Return a registry of *collector* and of what prometheus_client knows of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _gauge(name: str, samples: _Labelled) -> Metric:
    declared = PIPELINE_METRIC[name]
    family = GaugeMetricFamily(name, declared.help, labels=declared.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _single(name: str, value: float) -> Metric:
    return _gauge(name, [((), value)])


def _counter(name: str, text: str, labels: Sequence[str], samples: _Labelled) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in samples:
        family.add_metric(values, count)
    return family


def _distribution(name: str, seen: Distribution) -> Metric:
    family = HistogramMetricFamily(name, PIPELINE_METRIC[name].help, labels=())
    family.add_metric((), _buckets(seen.bounds, seen.counts), sum_value=seen.total)
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return cumulative counts by upper bound."""
    edges = [*(repr(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(edges, accumulate(counts), strict=True))
