"""``POST /gelf`` of the ingest service."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import CollectorRegistry

from pipeline.core.gelf import SOURCE
from pipeline.kit.clock import Clock
from pipeline.kit.settings import Settings
from producers.gelf.metrics import GelfMetrics
from producers.gelf.post import GelfPost
from producers.gelf.setup import record_maker, user_names
from producers.ingest_metrics import Content, IngestMetrics
from producers.intake import Route
from producers.posting import Sender

GELF: Final = "/gelf"

_SLICE: Final = 250
"""Messages taken before others have their turn."""


class GelfRoute:
    """What posted GELF becomes."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        registry: CollectorRegistry,
        metrics: IngestMetrics,
    ) -> None:
        """Count in *metrics* and *registry*.

        Raises:
            ConfigError: The key of the privacy hashes cannot be kept.
        """
        self._settings = settings
        self._clock = clock
        self._metrics = GelfMetrics(registry, metrics.component)
        self.user_names = user_names(settings, registry, clock)
        """A part of its own, if there is one: it must run beside the service."""
        self._maker = record_maker(settings, self.user_names)

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
