"""Taking posts: who may post, whether there is room, the body, and the answer once Kafka has it.

What the routes of the ingest service share; what a body becomes is each route's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import orjson
from aiohttp import web

from pipeline.core.errors import Reason, RecordError, TransientError
from pipeline.kit import listen
from pipeline.kit.clock import Clock
from pipeline.kit.settings import SENDERS, SOURCES, Settings
from producers.api_keys import ApiKeys, SourceNotAllowedError, UnknownSourceError, WrongKeyError
from producers.appender import Appender
from producers.disk import DiskSpace
from producers.ingest_metrics import Content, IngestMetrics, Refusal
from producers.posting import Post, Sender, TooManyEventsError
from producers.request_body import BodyReader, EncodingError, SlowClientError, TooLargeError
from producers.sender_numbers import Numbers, SenderNumbers, numbers_of, require_as_many

_RETRY_AFTER_S: Final = 5


Prepare = Callable[[bytes, Sender], Awaitable[Post]]
"""Makes records of a body; raises RecordError or TooManyEventsError if it cannot be used."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route that takes posts."""

    path: str
    content: Content
    prepare: Prepare
    batch: bool = False
    """Whether the body may hold several, some of which may be rejected."""
    sources: tuple[str, ...] = SOURCES
    """What ``X-Source`` may name; where there is one, it need not."""


class _Answer(NamedTuple):
    """What a refused post is answered."""

    status: int
    reason: StrEnum
    detail: str


_REFUSALS: Final[dict[type[Exception], _Answer]] = {
    WrongKeyError: _Answer(401, Refusal.UNAUTHORIZED, "X-API-Key is missing or unknown."),
    SourceNotAllowedError: _Answer(403, Refusal.FORBIDDEN, "The key may not post for this source."),
    UnknownSourceError: _Answer(
        400,
        Refusal.UNKNOWN_SOURCE,
        f"X-Source is not one of {', '.join(SENDERS)}; {SENDERS[-1]} posts no events.",
    ),
    SlowClientError: _Answer(408, Refusal.SLOW, "The body did not arrive in time."),
    TooLargeError: _Answer(413, Reason.TOO_LARGE, "The body is too large."),
    TooManyEventsError: _Answer(413, Reason.TOO_LARGE, "The batch has too many events or values."),
    EncodingError: _Answer(
        415, Refusal.UNSUPPORTED, "Content-Encoding is neither gzip nor absent."
    ),
}


class Intake:
    """Takes posts on any of its routes, and writes them to Kafka."""

    def __init__(
        self, settings: Settings, appender: Appender, clock: Clock, metrics: IngestMetrics
    ) -> None:
        """Take posts within the limits of *settings*, writing to *appender*."""
        ingest = settings.ingest
        self._appender = appender
        self._clock = clock
        self._metrics = metrics
        self._keys = ApiKeys(ingest.api_keys)
        self._reader = BodyReader(
            max_body=ingest.max_body_bytes,
            max_inflated=ingest.max_inflated_bytes,
            max_reading=ingest.buffer_bytes,
        )
        local = settings.kafka.bootstrap_servers is None
        self._disk = DiskSpace(settings.data_dir if local else None, clock)
        self.numbers = SenderNumbers()
        """What senders numbered, and what of it arrived."""

    @property
    def reading(self) -> int:
        """Return the bytes of bodies that are held now."""
        return self._reader.reading

    @property
    def trouble(self) -> str | None:
        """Say why no posts are taken now, or None if they are."""
        if self._appender.trouble is not None:
            return self._appender.trouble
        if self._disk.is_full():
            return "less than 3 % of the local broker's disk is free"
        return None

    async def take(self, request: web.Request, route: Route) -> web.Response:
        """Answer a post: 202 only after Kafka has acknowledged what was accepted of it."""
        try:
            sender = self._keys.sender(request.headers, route.sources)
            self._require_room()
            if request.content_type != "application/json":
                return self._refused(
                    _Answer(415, Refusal.UNSUPPORTED, "Expected Content-Type: application/json.")
                )
            numbers = numbers_of(request.headers)
            post = await self._read(request, sender, route)
            require_as_many(numbers, post.accepted + len(post.rejected))
        except TransientError as exc:
            return self._unavailable(exc)
        except RecordError as exc:
            return self._refused(_Answer(400, exc.reason, exc.detail))
        except tuple(_REFUSALS) as exc:
            return self._refused(_REFUSALS[type(exc)])
        return await self._write(post, route, numbers)

    def _require_room(self) -> None:
        trouble = self.trouble
        if trouble is not None:
            raise TransientError(trouble)

    async def _read(self, request: web.Request, sender: Sender, route: Route) -> Post:
        """Return what a request holds as records; its body is let go before they are written."""
        async with self._reader.body(request) as body:
            self._require_room()  # it may have waited for its turn
            return await route.prepare(body, sender)

    async def _write(self, post: Post, route: Route, numbers: Numbers | None) -> web.Response:
        try:
            if post.written:
                await self._appender.append(post.outputs)
        except TransientError as exc:
            self._metrics.unacknowledged(post)
            return self._unavailable(exc)
        self._metrics.acknowledged(route.content, post, self._clock.now_ms())
        if post.rejected and (post.is_single or not route.batch):
            error = post.rejected[0].error
            return listen.error_response(400, error.reason.value, error.detail)
        if numbers is not None:
            self.numbers.acknowledged(*post.sender, numbers)
        rejected = [{"index": item.place, "error": str(item.error)} for item in post.rejected]
        answer = orjson.dumps({"accepted": post.accepted, "rejected": rejected})
        return web.Response(status=202, body=answer, content_type="application/json")

    def _refused(self, answer: _Answer) -> web.Response:
        self._metrics.refused(answer.reason)
        return listen.error_response(answer.status, answer.reason.value, answer.detail)

    def _unavailable(self, error: TransientError) -> web.Response:
        retry_after = max(1, round(error.retry_after_s or _RETRY_AFTER_S))
        return listen.error_response(
            503, Refusal.UNAVAILABLE.value, str(error), {"Retry-After": str(retry_after)}
        )
