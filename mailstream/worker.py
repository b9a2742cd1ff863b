"""One worker process: the pipeline's engine, and the HTTP service that shows its numbers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from importlib.metadata import version

from pipeline.app import Pipeline, make_pipeline
from pipeline.export.http import serve_http
from pipeline.export.page import Exporter
from pipeline.kit.clock import Clock, SystemClock
from pipeline.kit.listen import AnnouncedSite
from pipeline.kit.service import Part
from pipeline.kit.settings import Settings
from pipeline.kit.values import Address
from pipeline.transport.worker import run_worker

log = logging.getLogger(__name__)


class HttpPart:
    """The worker's HTTP service as a part of its process."""

    name = "http"

    def __init__(
        self, settings: Settings, pipeline: Pipeline, clock: Clock, worker: str, listen: Address
    ) -> None:
        """Serve at *listen*, and announce it under the name of the *worker*."""
        self._settings = settings
        self._pipeline = pipeline
        self._clock = clock
        self._listen = listen
        self._site = AnnouncedSite(settings.data_dir, worker)

    async def start(self) -> None:
        """Bind and announce."""
        pipeline, settings = self._pipeline, self._settings
        exporter = Exporter(
            settings,
            pipeline.board,
            pipeline.tally,
            pipeline.stats,
            self._clock,
            version("mailstream"),
            pipeline.watch,
        )
        address = await self._site.start(
            serve_http(settings, exporter, pipeline.stats, self._clock, self._listen)
        )
        log.info("metrics are served", extra={"address": str(address)})

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Take back the announcement and close the listener."""
        await self._site.stop()


def main(
    settings: Settings,
    bootstrap: str,
    *,
    name: str,
    listen: Address,
) -> None:
    """Run the worker *name* until SIGTERM or SIGINT.

    Raises:
        MailstreamError: The address is taken, or a part failed.
    """
    clock = SystemClock()

    async def build() -> Sequence[Part]:
        pipeline = make_pipeline(settings, bootstrap, clock)
        return [HttpPart(settings, pipeline, clock, name, listen), pipeline.engine]

    run_worker(build)
