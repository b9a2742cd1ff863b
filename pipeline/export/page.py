"""The page that ``/metrics`` answers: window gauges as text, everything else by the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pipeline.core.engine_stats import EngineStats
from pipeline.core.tally import Tally
from pipeline.detect.alerts import Kind
from pipeline.export.catalogue import window_metrics
from pipeline.export.freshness import Freshness
from pipeline.export.prometheus import PipelineCollector, worker_registry
from pipeline.export.windows import FamilyText
from pipeline.fold.board import Board
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings

_OPENMETRICS: Final = "application/openmetrics-text"
_END: Final = b"# EOF\n"
_JUDGED: Final = {"user": Kind.HIJACKED_ACCOUNT, "ip_provider": Kind.IP_BLOCKED}
"""Families whose keys have episodes."""
_WINDOW_NAMES: Final = frozenset(metric.name for metric in window_metrics())


class Judged(Protocol):
    """What anomaly detection shows (:class:`pipeline.detect.watch.Watch`)."""

    def scores(self) -> Mapping[str, float]:
        """Return value over limit by account."""

    def open_keys(self, kind: Kind) -> Collection[str]:
        """Return the joined keys of the open episodes."""


class Page(NamedTuple):
    """One answer to a scrape."""

    content_type: str
    body: bytes


class Exporter:
    """Everything that the worker's HTTP service shows, made from the parts of a worker."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        tally: Tally,
        stats: EngineStats,
        clock: Clock,
        version: str,
        watch: Judged | None = None,
    ) -> None:
        """Read the parts at each scrape; nothing is copied before."""
        self._watch = watch
        self._board = board
        self._clock = clock
        self._families = [
            FamilyText(family, board.windows_ms, settings.pipeline.top_keys)
            for family in board.families
        ]
        self._turn = asyncio.Lock()
        self._began_complete = False
        """Whether the windows could be trusted when the page was begun."""
        self.freshness = Freshness(board, stats, settings.topics.names.of("deltas"))
        self.registry: CollectorRegistry = worker_registry(
            PipelineCollector(
                tally,
                stats,
                self.freshness,
                windows_ms=board.windows_ms,
                expected_origins=settings.expected_origins,
                version=version,
                now_ms=clock.now_ms,
                scores=lambda: {} if watch is None else watch.scores(),
                complete=self._is_complete,
                folded=lambda: {text.family.name: text.folded for text in self._families},
                capped=lambda: {
                    text.family.name: text.capped
                    for text in self._families
                    if text.family.distincts
                },
            )
        )
        """For the metrics of further parts of the worker."""

    def tick(self) -> None:
        """Let time pass where nothing is read; call it every second."""
        now_ms = self._clock.now_ms()
        self._board.advance(now_ms)
        self.freshness.observe(now_ms)

    def _is_complete(self) -> bool:
        """Tell whether the page's windows can be trusted: partitions may come while it is made."""
        return self._began_complete and self.freshness.is_complete(self._clock.now_ms())

    async def page(self, accept: str = "", names: frozenset[str] = frozenset()) -> Page:
        """Return the page in the format that the header ``Accept`` asks for.

        Scrapes take turns: a series shows its zero to the one scrape that follows its end.

        Args:
            accept: The header's value.
            names: The metrics to show; empty: all.  Of the window gauges a family comes whole,
                and a family that does not come keeps its zeros.
        """
        encoder, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith(_OPENMETRICS)
        async with self._turn:
            self.tick()
            self._began_complete = self.freshness.is_complete(self._clock.now_ms())
            parts = [text.encode() for text in await self._windows(names)]
            parts += await self._rest(encoder, names, openmetrics=openmetrics)
        if openmetrics:
            parts.append(_END)
        return Page(content_type, b"".join(parts))

    async def _windows(self, names: frozenset[str]) -> list[str]:
        """Render family by family, so that nothing else waits for more than one."""
        parts = []
        member = self.freshness.is_member(self._clock.now_ms())
        for text in self._families:
            if names and names.isdisjoint(text.metrics):
                continue
            name = text.family.name
            for partition in self._board.partitions if member else ():
                self._board.settle(name, partition)
                await asyncio.sleep(0)
            shares = self._board.shares(name, self.freshness.hidden()) if member else []
            parts.append(text.render(shares, self._board.groups(name), self._needed(name)))
            await asyncio.sleep(0)
        return parts

    def _needed(self, family: str) -> Collection[str]:
        """Return the keys of open episodes, which must not lose their name."""
        kind = _JUDGED.get(family)
        return () if self._watch is None or kind is None else self._watch.open_keys(kind)

    async def _rest(
        self, encoder: Callable[[Collector], bytes], names: frozenset[str], *, openmetrics: bool
    ) -> list[bytes]:
        parts = []
        for metric in self.registry.collect():
            if names and names.isdisjoint((metric.name, f"{metric.name}_total")):
                continue
            family = _renamed(metric) if openmetrics else metric
            parts.append(encoder(_One(family)).removesuffix(_END))
            await asyncio.sleep(0)
        return parts


class _One(Collector):
    """One family by itself, so that encoding yields to the loop between families."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def _renamed(metric: Metric) -> Metric:
    """Return a counter as of unknown type where OpenMetrics would name it like a window gauge.

    There a counter's family is named without ``_total``, and no two families share a name.
    """
    if metric.type != "counter" or metric.name not in _WINDOW_NAMES:
        return metric
    unknown = Metric(f"{metric.name}_total", metric.documentation, "unknown")
    unknown.samples = metric.samples
    return unknown
