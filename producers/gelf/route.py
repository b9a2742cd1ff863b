"""``POST /gelf`` of the ingest service."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import CollectorRegistry

from pipeline.core.gelf import SOURCE
from pipeline.kit.clock import Clock
from pipeline.kit.service import Part
from pipeline.kit.settings import Settings
from producers.appender import Appender
from producers.gelf.metrics import GelfMetrics
from producers.gelf.post import GelfPost
from producers.gelf.setup import (
    keeper_of,
    record_maker,
    samples_of,
    user_names,
)
from producers.ingest_metrics import Content, IngestMetrics
from producers.intake import Route
from producers.posting import Sender
from producers.privacy import Privacy

GELF: Final = "/gelf"

_SLICE: Final = 250
"""Messages taken before others have their turn."""


class GelfRoute:
    """What posted GELF becomes."""

    def __init__(
        self,
        settings: Settings,
        appender: Appender,
        privacy: Privacy,
        clock: Clock,
        registry: CollectorRegistry,
        metrics: IngestMetrics,
    ) -> None:
        """Write samples of bad messages with *appender*; count in *metrics* and *registry*."""
        self._settings = settings
        self._clock = clock
        self._metrics = GelfMetrics(registry, metrics.component)
        names = user_names(settings, registry, clock)
        samples = samples_of(settings, privacy, appender, registry, clock)
        self.beside: tuple[Part, ...] = (samples,) if names is None else (samples, names)
        """Parts of their own, which must run beside the service."""
        self._maker = record_maker(settings, keeper_of(privacy, names), samples)

    def routes(self) -> tuple[Route, ...]:
        """Return the one route."""
        return (Route(GELF, Content.EVENTS, self._post, batch=True, sources=(SOURCE,)),)

    async def _post(self, body: bytes, sender: Sender) -> GelfPost:
        most = self._settings.ingest.max_batch_events
        topics = self._settings.topics
        post = GelfPost(body, sender, self._clock.now_ms(), self._maker, most, topics)
        for _turn in post.take(_SLICE):
            await asyncio.sleep(0)
        self._metrics.noise(post.haul)
        return post
