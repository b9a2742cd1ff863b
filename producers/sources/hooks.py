"""The ingest service: events, heartbeats and observations over HTTP (see ``docs/ingest.md``).

A post is answered with 202 only after Kafka has acknowledged its events.  Whoever gets any other
answer, or none, still has them: posting again is harmless, because the same event has the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from pipeline.core import gelf
from pipeline.core.errors import RecordError
from pipeline.core.posted import PostedEvent
from pipeline.kit import listen, service
from pipeline.kit.clock import Clock
from pipeline.kit.disk import DataDisk
from pipeline.kit.kafka import client_options
from pipeline.kit.settings import SOURCES, Settings
from pipeline.kit.values import Address
from producers import node_records
from producers.appender import ACK_DEADLINE_S, Appender
from producers.gelf.records import TOPIC as GELF_TOPIC
from producers.gelf.route import GelfRoute
from producers.gelf.samples import TOPIC as SAMPLES_TOPIC
from producers.ingest_metrics import Content, IngestMetrics
from producers.intake import Intake, Route
from producers.known_names import KnownNames
from producers.node_routes import NodeRoutes, SenderCollector
from producers.posting import Posting, Sender, decode_batch, decode_one
from producers.privacy_rules import privacy_rules

log = logging.getLogger(__name__)

NAME: Final = "ingest"
ONE: Final = "/api/v1/email-events"
BATCH: Final = "/api/v1/email-events/batch"
GELF: Final = "/gelf"
HEALTH: Final = "/health"
METRICS: Final = "/metrics"

_SLICE: Final = 250
"""Events prepared before a look at the clock: about 2 ms, much longer if replies are hostile."""
_TURN_S: Final = 0.01
"""How long one post may keep the loop from others."""
_DRAIN_S: Final = ACK_DEADLINE_S + 1.0
"""How long a stop waits for answers."""
_CLOSE_S: Final = 1.0


class Ingest:
    """One ingest service: an HTTP listener before an appender."""

    name = NAME

    def __init__(self, settings: Settings, appender: Appender, clock: Clock) -> None:
        """Serve *settings*, writing to *appender*.

        Raises:
            ConfigError: Strangers could post, or the key of the privacy hashes cannot be kept.
        """
        ingest = settings.ingest
        listen.Guard(ingest.listen, ingest.allow).require_protection(
            has_credentials=bool(ingest.api_keys)
        )
        self._settings = settings
        self._appender = appender
        self._clock = clock
        self._known = KnownNames()
        self._privacy = {source: privacy_rules(settings, source) for source in SOURCES}
        self._registry = CollectorRegistry()
        self._metrics = IngestMetrics(self._registry)
        of_gelf = GelfRoute(
            settings,
            appender,
            privacy_rules(settings, gelf.SOURCE),
            clock,
            self._registry,
            self._metrics,
        )
        self.beside = of_gelf.beside
        """Parts of their own, which must run beside this one."""
        self._intake = Intake(settings, appender, clock, self._metrics)
        self._routes = (
            Route(ONE, Content.EVENTS, self._one),
            Route(BATCH, Content.EVENTS, self._batch, batch=True),
            *of_gelf.routes(),
            *NodeRoutes(settings, self._intake, clock).routes(),
        )
        self._registry.register(DataDisk(settings.data_dir))
        self._registry.register(SenderCollector(self._intake.numbers, clock))
        self._metrics.buffer_limit_bytes.set(appender.buffer_limit)
        self._metrics.buffer_bytes.set_function(lambda: appender.buffer_bytes)
        self._metrics.reading_bytes.set_function(lambda: self._intake.reading)
        self._site = listen.AnnouncedSite(settings.data_dir, NAME)
        self._open = 0
        self._stopping: asyncio.Future[None] | None = None

    @property
    def address(self) -> Address:
        """Return where it listens: the configured address until it was started."""
        return self._site.address or self._settings.ingest.listen

    async def start(self) -> None:
        """Begin to listen, and tell other processes where."""
        ingest = self._settings.ingest
        tls = listen.server_tls(ingest.tls_cert, ingest.tls_key)
        address = await self._site.start(
            listen.start_site(
                self._application(), ingest.listen, tls, inflate=False, drain_s=_CLOSE_S
            )
        )
        log.info("taking events", extra={"address": str(address)})

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take no more posts, and answer those that were begun."""
        await self._site.close()
        # A shutdown of aiohttp no longer reads bodies: what was begun must end before it.
        self._stopping = asyncio.get_running_loop().create_future()
        if self._open:
            await asyncio.wait([self._stopping], timeout=_DRAIN_S)
        await self._site.stop()

    def _application(self) -> web.Application:
        ingest, metrics = self._settings.ingest, self._settings.metrics
        guard = listen.Guard(
            ingest.listen,
            ingest.allow,
            metrics.username,
            metrics.password,
            open_paths=frozenset({HEALTH, *(route.path for route in self._routes)}),
        )
        app = web.Application(
            middlewares=[self._measured(), *listen.middlewares(guard)],
            client_max_size=ingest.max_body_bytes,
        )
        for route in self._routes:
            app.router.add_post(route.path, partial(self._take, route))
        app.router.add_get(HEALTH, self._tell_health)
        app.router.add_get(METRICS, self._tell_metrics)
        return app

    def _measured(self) -> Any:
        @web.middleware
        async def measured(
            request: web.Request,
            handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        ) -> web.StreamResponse:
            began = self._clock.monotonic()
            self._open += 1
            try:
                response = await handler(request)
            finally:
                self._open -= 1
                if self._stopping is not None and not (self._open or self._stopping.done()):
                    self._stopping.set_result(None)
            if self._stopping is not None:
                response.force_close()
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "unknown"
            self._metrics.seconds.labels(route).observe(self._clock.monotonic() - began)
            self._metrics.requests.labels(route, str(response.status)).inc()
            return response

        return measured

    async def _take(self, route: Route, request: web.Request) -> web.Response:
        return await self._intake.take(request, route)

    async def _one(self, body: bytes, sender: Sender) -> Posting:
        return await self._prepared(body, sender, batch=False)

    async def _batch(self, body: bytes, sender: Sender) -> Posting:
        return await self._prepared(body, sender, batch=True)

    async def _prepared(self, body: bytes, sender: Sender, *, batch: bool) -> Posting:
        events: Sequence[PostedEvent | RecordError]
        if batch:
            events = decode_batch(body, self._settings.ingest.max_batch_events)
        else:
            events = decode_one(body)
        topics = self._settings.topics
        posting = Posting(
            sender,
            topics.names,
            topics.partitions,
            self._privacy[sender.source],
            self._clock.now_ms(),
            self._known,
        )
        began = self._clock.monotonic()
        for first in range(0, len(events), _SLICE):
            if self._clock.monotonic() - began > _TURN_S:
                await asyncio.sleep(0)
                began = self._clock.monotonic()
            posting.take(events[first : first + _SLICE], first)
        unknown = posting.finish(body, batch=batch)
        self._metrics.dropped(sender, unknown_fields=unknown, redacted=posting.redacted)
        return posting

    async def _tell_health(self, _: web.Request) -> web.Response:
        trouble = self._intake.trouble
        if trouble is None and not self._appender.reachable:
            trouble = "Kafka does not answer"
        state = {
            "status": "ok" if trouble is None else "unavailable",
            "kafka": "reachable" if self._appender.reachable else "away",
            "detail": trouble,
            "buffer_bytes": self._appender.buffer_bytes,
            "buffer_limit_bytes": self._appender.buffer_limit,
        }
        return web.json_response(state, status=200 if trouble is None else 503)

    async def _tell_metrics(self, request: web.Request) -> web.Response:
        return listen.metrics_response(self._registry, request)


async def serve(settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Take hook events until told to stop."""
    names, partitions = settings.topics.names, settings.topics.partitions
    appender = Appender(
        client_options(settings.kafka, bootstrap),
        [
            *(names.of(f"raw.{source}") for source in SOURCES),
            names.of(GELF_TOPIC),
            names.of(SAMPLES_TOPIC),
            names.of(node_records.TOPIC),
        ],
        partitions,
        clock,
        buffer_bytes=settings.ingest.buffer_bytes,
    )
    ingest = Ingest(settings, appender, clock)
    await service.serve([appender, *ingest.beside, ingest])
