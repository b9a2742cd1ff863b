"""The view as a process: what it follows, what it remembers, and where it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.reader import Reader, ReaderOptions
from consumers.start import Since
from consumers.subscribe import event_of
from consumers.view.alerts import Alerts
from consumers.view.answers import Answers
from consumers.view.folding import Folding
from consumers.view.frames import Frames
from consumers.view.history import History
from consumers.view.http import ViewHttp
from consumers.view.live import LiveEvents
from consumers.view.messages import Messages, Rules
from consumers.view.nodes import Nodes
from consumers.view.recent import Recent
from consumers.view.stored import Stored
from pipeline.core.errors import ConfigError, TransientError
from pipeline.core.pane import DAY_MS, HOUR_MS, MINUTE_MS
from pipeline.fold.board import Board, schema_of
from pipeline.kit import listen, service
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import Settings
from pipeline.kit.settings_view import ViewSettings

log = logging.getLogger(__name__)

NAME: Final = "view"
EVENTS_BACK_MS: Final = 10 * MINUTE_MS
"""Single events are remembered from so long before the start on; sums, from the longest window."""
ALERTS_BACK_MS: Final = 30 * DAY_MS
"""As long as alerts are kept: an episode may have begun long ago."""
AGAIN_S: Final = 10.0
_YIELD_EVERY: Final = 100

Take = Callable[[Any], None]


class Following:
    """A part of the view's process: hands every record of a topic to a memory."""

    def __init__(self, name: str, options: ReaderOptions, take: Take, clock: Clock) -> None:
        """Follow a topic, which need not be there yet."""
        self.name = name
        self._options = options
        self._take = take
        self._clock = clock

    async def start(self) -> None:
        """Nothing is to be waited for: Kafka may be away."""

    async def run(self) -> None:
        """Follow until cancelled."""
        told = ""
        while True:
            reader = Reader(self._options, self._clock)
            try:
                await reader.open()
                await self._follow(reader)
            except (TransientError, ConfigError) as exc:
                # A topic that is made later, or rights that are given later, are no reason to end.
                if str(exc) != told:
                    told = str(exc)
                    log.info("not followed yet", extra={"topic": self._options.topic, "why": told})
            finally:
                await reader.close()
            await self._clock.sleep(AGAIN_S)

    async def stop(self) -> None:
        """Nothing is to be finished."""

    async def _follow(self, reader: Reader) -> None:
        while True:
            records = await reader.read()
            for place, (tp, record) in enumerate(records.records):
                self._take(record)
                reader.handled(records, tp, record.offset)
                if place % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)


class Closable(Protocol):
    """What holds connections."""

    async def close(self) -> None:
        """Close them."""


class _Site:
    """A part of the view's process: the listener, the first to start and the last to stop."""

    name = NAME

    def __init__(
        self, settings: Settings, view: ViewSettings, http: ViewHttp, opened: Sequence[Closable]
    ) -> None:
        metrics = settings.metrics
        self._guard = listen.Guard(view.listen, view.allow, metrics.username, metrics.password)
        self._guard.require_protection()
        self._view = view
        self._http = http
        self._opened = opened
        self._site = listen.AnnouncedSite(settings.data_dir, NAME)

    async def start(self) -> None:
        app = web.Application(middlewares=listen.middlewares(self._guard))
        self._http.add_to(app)
        tls = listen.server_tls(self._view.tls_cert, self._view.tls_key)
        address = await self._site.start(listen.start_site(app, self._view.listen, tls))
        log.info("the view is served", extra={"address": str(address)})

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        await self._site.stop()
        for one in self._opened:
            await one.close()


async def serve(settings: Settings, bootstrap: str, clock: Clock, rules: Rules) -> None:
    """Answer until told to stop (SIGTERM, SIGINT).

    Args:
        settings: The whole configuration.
        bootstrap: Where Kafka is.
        clock: The machine's.
        rules: The privacy rules of the installation.

    Raises:
        ConfigError: The configuration is unusable, or the view is off.
        MailstreamError: The address is taken, or a part failed.
    """
    view = settings.view
    if view is None:
        raise ConfigError(["view: expected this section, as the view is to run"])
    client = client_options(settings.kafka, bootstrap)
    names = settings.topics.names
    board = Board(settings.pipeline.windows)
    schema = schema_of(settings.pipeline.windows, settings.pipeline.families)
    frames = Frames(names.of("rollups"), schema, board, clock)
    folding = Folding(client, names.of("deltas"), frames, board, clock)
    recent, nodes, alerts = Recent(), Nodes(), Alerts()
    messages = Messages(settings.zonemta.nodes if settings.zonemta else (), rules)
    live = LiveEvents(recent, alerts, clock)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        _Own(lambda: own_metrics(board, folding, recent, nodes, alerts, live.readers))
    )
    for known in (ProcessCollector, PlatformCollector, GCCollector):
        known(registry=registry)
    postgres = settings.sinks.postgres
    stored = Stored(postgres.dsn) if postgres is not None else None
    answers = Answers(board, recent, nodes, alerts, lambda: folding.complete)
    http = ViewHttp(
        view, answers, History(answers, stored), recent, messages, live, registry, folding.waiting
    )

    opened: list[Closable] = [messages] if stored is None else [messages, stored]

    def follow(topic: str, back_ms: int, take: Take) -> Following:
        start = Since(clock.now_ms() - back_ms)
        options = ReaderOptions(client=client, topic=topic, group=None, start=start)
        return Following(topic, options, take, clock)

    await service.serve(
        [
            _Site(settings, view, http, opened),
            folding,
            follow(names.of("events"), EVENTS_BACK_MS, _events(recent)),
            follow(names.of("raw.node"), HOUR_MS, _nodes(nodes)),
            follow(names.of("alerts"), ALERTS_BACK_MS, lambda one: alerts.take(one.value or b"")),
        ]
    )


def _events(recent: Recent) -> Take:
    def take(record: Any) -> None:
        event = event_of(record)
        if event is not None:
            recent.take(event)

    return take


def _nodes(nodes: Nodes) -> Take:
    return lambda record: nodes.take(record.value or b"", dict(record.headers))


class _Own(Collector):
    """What the view says about itself."""

    def __init__(self, told: Callable[[], Iterable[Metric]]) -> None:
        self._told = told

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        return self._told()


def own_metrics(
    board: Board, folding: Folding, recent: Recent, nodes: Nodes, alerts: Alerts, readers: int
) -> Iterator[Metric]:
    """Yield what the view says about itself."""
    folded = sum(board.partitions.values())
    for name, text, value in (
        ("complete", "1 if the windows hold everything up to 30 s ago.", int(folding.complete)),
        ("partitions", "Partitions of the deltas that are folded.", folded),
        ("partitions_stopped", "Partitions that cannot be read.", len(folding.stopped)),
        ("live_readers", "Readers of the live events.", readers),
    ):
        yield GaugeMetricFamily(f"mailstream_view_{name}", text, value=value)
    for name, text, count in (
        ("frames", "Frames of deltas folded since the start.", folding.frames),
        ("events", "Events read since the start.", recent.events),
    ):
        yield CounterMetricFamily(f"mailstream_view_{name}_total", text, value=count)
    unusable = CounterMetricFamily(
        "mailstream_view_unusable_records_total",
        "Records that the view could not read.",
        labels=("topic",),
    )
    unusable.add_metric(("raw.node",), nodes.unusable)
    unusable.add_metric(("alerts",), alerts.unusable)
    yield unusable
