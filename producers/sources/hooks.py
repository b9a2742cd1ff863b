"""Hook events, and GELF, over HTTP: what plugins post (see ``docs/ingest.md``).

A post is answered with 202 only after Kafka has acknowledged its events.  Whoever gets any other
answer, or none, still has them: posting again is harmless, because the same event has the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry

from pipeline.core.errors import Reason, RecordError, TransientError
from pipeline.core.posted import PostedEvent
from pipeline.kit import listen, service
from pipeline.kit.clock import Clock
from pipeline.kit.kafka import client_options
from pipeline.kit.privacy_key import privacy_key
from pipeline.kit.settings import SOURCES, Settings
from pipeline.kit.telemetry import scrape
from pipeline.kit.values import Address
from producers.api_keys import ApiKeys, SourceNotAllowedError, UnknownSourceError, WrongKeyError
from producers.appender import ACK_DEADLINE_S, Appender, by_partition
from producers.disk import DiskSpace
from producers.gelf.post import GelfPost
from producers.gelf.records import TOPIC
from producers.gelf.setup import record_maker, user_names
from producers.ingest_metrics import IngestMetrics, Refusal
from producers.posting import (
    Posting,
    Rejection,
    Sender,
    TooManyEventsError,
    decode_batch,
    decode_one,
)
from producers.privacy import Privacy
from producers.request_body import BodyReader, EncodingError, SlowClientError, TooLargeError

log = logging.getLogger(__name__)

NAME: Final = "ingest"
ONE: Final = "/api/v1/email-events"
BATCH: Final = "/api/v1/email-events/batch"
GELF: Final = "/gelf"
HEALTH: Final = "/health"
METRICS: Final = "/metrics"

_RETRY_AFTER_S: Final = 5
_SLICE: Final = 250
"""Events prepared before a look at the clock: about 2 ms, much longer if replies are hostile."""
_TURN_S: Final = 0.01
"""How long one post may keep the loop from others."""
_DRAIN_S: Final = ACK_DEADLINE_S + 1.0
"""How long a stop waits for answers."""
_CLOSE_S: Final = 1.0


class _Answer(NamedTuple):
    """What a refused post is answered."""

    status: int
    reason: StrEnum
    detail: str


_REFUSALS: Final[dict[type[Exception], _Answer]] = {
    WrongKeyError: _Answer(401, Refusal.UNAUTHORIZED, "X-API-Key is missing or unknown."),
    SourceNotAllowedError: _Answer(403, Refusal.FORBIDDEN, "The key may not post for this source."),
    UnknownSourceError: _Answer(
        400, Refusal.UNKNOWN_SOURCE, f"X-Source is not one of {', '.join(SOURCES)}."
    ),
    SlowClientError: _Answer(408, Refusal.SLOW, "The body did not arrive in time."),
    TooLargeError: _Answer(413, Reason.TOO_LARGE, "The body is too large."),
    TooManyEventsError: _Answer(413, Reason.TOO_LARGE, "The batch has too many events or values."),
    EncodingError: _Answer(
        415, Refusal.UNSUPPORTED, "Content-Encoding is neither gzip nor absent."
    ),
}


class Ingest:
    """One ingest service: an HTTP listener before an appender."""

    name = NAME

    def __init__(self, settings: Settings, appender: Appender, clock: Clock) -> None:
        """Serve *settings*, writing to *appender*.

        Raises:
            ConfigError: Strangers could post, or the key of the privacy hashes cannot be kept.
        """
        ingest, privacy = settings.ingest, settings.privacy
        listen.Guard(ingest.listen, ingest.allow).require_protection(
            has_credentials=bool(ingest.api_keys)
        )
        self._settings = settings
        self._appender = appender
        self._clock = clock
        self._keys = ApiKeys(ingest.api_keys)
        self._reader = BodyReader(
            max_body=ingest.max_body_bytes,
            max_inflated=ingest.max_inflated_bytes,
            max_reading=ingest.buffer_bytes,
        )
        self._privacy = Privacy(
            privacy_key(settings),
            keep_recipients=privacy.keep_recipients,
            pseudonymise=privacy.pseudonymise,
        )
        local = settings.kafka.bootstrap_servers is None
        self._disk = DiskSpace(settings.data_dir if local else None, clock)
        self._registry = CollectorRegistry()
        self._metrics = IngestMetrics(self._registry)
        self.user_names = user_names(settings, self._registry, clock)
        """A part of its own, if there is one: it must run beside this one."""
        self._maker = record_maker(settings, self.user_names)
        self._metrics.buffer_limit_bytes.set(appender.buffer_limit)
        self._metrics.buffer_bytes.set_function(lambda: appender.buffer_bytes)
        self._metrics.reading_bytes.set_function(lambda: self._reader.reading)
        self._site: listen.Site | None = None
        self._open = 0
        self._stopping: asyncio.Future[None] | None = None

    @property
    def address(self) -> Address:
        """Return where it listens: the configured address until it was started."""
        return self._site.address if self._site is not None else self._settings.ingest.listen

    async def start(self) -> None:
        """Begin to listen, and tell other processes where."""
        ingest = self._settings.ingest
        tls = listen.server_tls(ingest.tls_cert, ingest.tls_key)
        self._site = await listen.start_site(
            self._application(), ingest.listen, tls, inflate=False, drain_s=_CLOSE_S
        )
        service.announce(self._settings.data_dir, NAME, self.address)
        log.info("taking events", extra={"address": str(self.address)})

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take no more posts, and answer those that were begun."""
        service.withdraw(self._settings.data_dir, NAME)
        if self._site is None:
            return
        for site in tuple(self._site.runner.sites):
            await site.stop()
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
            open_paths=frozenset({ONE, BATCH, GELF, HEALTH}),
        )
        app = web.Application(
            middlewares=[self._measured(), *listen.middlewares(guard)],
            client_max_size=ingest.max_body_bytes,
        )
        app.router.add_post(ONE, self._take_one)
        app.router.add_post(BATCH, self._take_batch)
        app.router.add_post(GELF, self._take_gelf)
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

    async def _take_one(self, request: web.Request) -> web.Response:
        return await self._take(request, batch=False)

    async def _take_batch(self, request: web.Request) -> web.Response:
        return await self._take(request, batch=True)

    async def _take(self, request: web.Request, *, batch: bool) -> web.Response:
        try:
            sender = self._keys.sender(request.headers)
            self._require_room()
            if request.content_type != "application/json":
                return self._refused(
                    _Answer(415, Refusal.UNSUPPORTED, "Expected Content-Type: application/json.")
                )
            posting = await self._read(request, sender, batch=batch)
        except TransientError as exc:
            return self._unavailable(exc)
        except RecordError as exc:
            return self._refused(_Answer(400, exc.reason, exc.detail))
        except tuple(_REFUSALS) as exc:
            return self._refused(_REFUSALS[type(exc)])
        return await self._write(posting, batch=batch)

    async def _take_gelf(self, request: web.Request) -> web.Response:
        try:
            sender = self._keys.gelf_sender(request.headers)
            self._require_room()
            async with self._reader.body(request) as body:
                self._require_room()  # it may have waited for its turn
                post = GelfPost(
                    body,
                    sender,
                    self._clock.now_ms(),
                    self._maker,
                    self._settings.ingest.max_batch_events,
                )
                for _turn in post.take(_SLICE):
                    await asyncio.sleep(0)
        except TransientError as exc:
            return self._unavailable(exc)
        except RecordError as exc:
            return self._refused(_Answer(400, exc.reason, exc.detail))
        except tuple(_REFUSALS) as exc:
            return self._refused(_REFUSALS[type(exc)])
        return await self._write_gelf(post)

    async def _write_gelf(self, post: GelfPost) -> web.Response:
        topics = self._settings.topics
        outputs = by_partition(post.haul.records, topics.names.of(TOPIC), topics.partitions)
        try:
            if outputs:
                await self._appender.append(outputs)
        except TransientError as exc:
            self._metrics.gelf(post, self._clock.now_ms(), acknowledged=False)
            return self._unavailable(exc)
        self._metrics.gelf(post, self._clock.now_ms(), acknowledged=True)
        if post.is_single and post.rejected:
            error = post.rejected[0].error
            return listen.error_response(400, error.reason.value, error.detail)
        return _accepted(post.haul.received - len(post.rejected), post.rejected)

    def _require_room(self) -> None:
        if self._appender.trouble is not None:
            raise TransientError(self._appender.trouble)
        if self._disk.is_full():
            raise TransientError("less than 3 % of the local broker's disk is free")

    async def _read(self, request: web.Request, sender: Sender, *, batch: bool) -> Posting:
        """Return the events of a request as records; its body is let go before they are written."""
        async with self._reader.body(request) as body:
            self._require_room()  # it may have waited for its turn
            return await self._prepared(body, sender, batch=batch)

    async def _prepared(self, body: bytes, sender: Sender, *, batch: bool) -> Posting:
        events: Sequence[PostedEvent | RecordError]
        if batch:
            events = decode_batch(body, self._settings.ingest.max_batch_events)
        else:
            events = decode_one(body)
        topics = self._settings.topics
        posting = Posting(
            sender, topics.names, topics.partitions, self._privacy, self._clock.now_ms()
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

    async def _write(self, posting: Posting, *, batch: bool) -> web.Response:
        try:
            if posting.accepted:
                await self._appender.append(posting.outputs)
        except TransientError as exc:
            self._metrics.unacknowledged(posting)
            return self._unavailable(exc)
        self._metrics.acknowledged(posting, self._clock.now_ms())
        if not batch and posting.rejected:
            error = posting.rejected[0].error
            return listen.error_response(400, error.reason.value, error.detail)
        return _accepted(posting.accepted, posting.rejected)

    def _refused(self, answer: _Answer) -> web.Response:
        self._metrics.refused(answer.reason)
        return listen.error_response(answer.status, answer.reason.value, answer.detail)

    def _unavailable(self, error: TransientError) -> web.Response:
        retry_after = max(1, round(error.retry_after_s or _RETRY_AFTER_S))
        return listen.error_response(
            503, Refusal.UNAVAILABLE.value, str(error), {"Retry-After": str(retry_after)}
        )

    async def _tell_health(self, _: web.Request) -> web.Response:
        trouble = self._appender.trouble
        if trouble is None and not self._appender.reachable:
            trouble = "Kafka does not answer"
        if trouble is None and self._disk.is_full():
            trouble = "less than 3 % of the local broker's disk is free"
        state = {
            "status": "ok" if trouble is None else "unavailable",
            "kafka": "reachable" if self._appender.reachable else "away",
            "detail": trouble,
            "buffer_bytes": self._appender.buffer_bytes,
            "buffer_limit_bytes": self._appender.buffer_limit,
        }
        return web.json_response(state, status=200 if trouble is None else 503)

    async def _tell_metrics(self, request: web.Request) -> web.Response:
        text, content_type = scrape(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type, "Vary": "Accept"})


def _accepted(accepted: int, rejections: Sequence[Rejection]) -> web.Response:
    rejected = [{"index": item.place, "error": str(item.error)} for item in rejections]
    answer = orjson.dumps({"accepted": accepted, "rejected": rejected})
    return web.Response(status=202, body=answer, content_type="application/json")


async def serve(settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Take hook events until told to stop (SIGTERM, SIGINT).

    Args:
        settings: The whole configuration.
        bootstrap: Where Kafka is; it may be away.
        clock: The machine's.

    Raises:
        ConfigError: The configuration is unusable.
        MailstreamError: The address is taken, or a part failed.
    """
    names, partitions = settings.topics.names, settings.topics.partitions
    appender = Appender(
        client_options(settings.kafka, bootstrap),
        [*(names.of(f"raw.{source}") for source in SOURCES), names.of(TOPIC)],
        partitions,
        clock,
        buffer_bytes=settings.ingest.buffer_bytes,
    )
    ingest = Ingest(settings, appender, clock)
    beside = [] if ingest.user_names is None else [ingest.user_names]
    await service.serve([appender, *beside, ingest])
