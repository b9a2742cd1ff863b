"""The roundtrip probe as a service: its file, its rounds, its endpoints, and the way to Kafka."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, Final

from prometheus_client import CollectorRegistry

from pipeline.core.errors import Reason
from pipeline.kit import service
from pipeline.kit.clock import Clock
from pipeline.kit.privacy_key import privacy_key
from pipeline.kit.settings import Settings
from pipeline.kit.telemetry import ComponentMetrics
from producers.monitor import OK
from producers.privacy import Privacy
from producers.privacy_rules import privacy_rules
from producers.sources.probe.config import ProbeConfig
from producers.sources.probe.example import config_path, write_example
from producers.sources.probe.legs import Legs
from producers.sources.probe.means import Means
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.outcome import SOURCE, TOPIC, Outcome, RecordMaker, scrubber
from producers.sources.probe.queue import Queue
from producers.sources.probe.reload import Files
from producers.sources.probe.schedule import Schedule
from producers.sources.probe.sweep import Sweep
from producers.sources.probe.token import probe_key
from producers.sources.probe.web import NAME, Web
from producers.spooled import Spooled

log = logging.getLogger(__name__)

_BESIDE_ROUNDS: Final = 8
"""Threads for what is no round."""
_MOST_NAME: Final = 64


class Drop(StrEnum):
    """Why outcomes are dropped."""

    SPOOL_FULL = "spool_full"
    """Kafka is away, and the spool on disk has no room."""


def origin_of(settings: Settings, config: ProbeConfig) -> str:
    """Return what tells this probe from others."""
    named = config.options.origin or settings.probe.origin
    return named or socket.gethostname()[:_MOST_NAME] or NAME


def means_for(config: ProbeConfig, clock: Clock) -> Means:
    """Return what the legs share: as many threads as rounds that may run side by side."""
    threads = config.options.max_parallel_routes + _BESIDE_ROUNDS
    return Means(ThreadPoolExecutor(threads, thread_name_prefix="imap"), clock=clock)


class Teller:
    """Shows each outcome, and puts its record where it is written from; never fails or waits."""

    def __init__(
        self,
        current: Callable[[], ProbeConfig],
        privacy: Privacy,
        metrics: ProbeMetrics,
        maker: RecordMaker,
        component: ComponentMetrics,
        way: Spooled | None,
    ) -> None:
        """Write by *way*; None: nowhere."""
        self._current = current
        self._privacy = privacy
        self._metrics = metrics
        self._maker = maker
        self._component = component
        self._way = way

    def tell(self, outcome: Outcome) -> None:
        """Take one outcome."""
        scrub = scrubber(self._current().secrets, outcome.route)
        failure = outcome.failure
        text = None if failure is None else self._privacy.reply(scrub(failure.text))
        self._metrics.take(outcome, text)
        self._component.received()
        if self._way is not None:
            self._way.outbox.put([self._maker.record(outcome, scrub)])
        self._log(outcome, text)

    def _log(self, outcome: Outcome, text: str | None) -> None:
        fields: dict[str, Any] = {"outcome": outcome.kind.value, "reason": outcome.route.name}
        if outcome.failure is not None and not outcome.delivered:
            told = {
                "phase": outcome.failure.phase.value,
                "class": outcome.failure.error_class.value,
            }
            log.warning("a route failed", extra={**fields, **told, "error": text})
        log.debug("a mail has an outcome", extra={**fields, **_details(outcome)})


def _details(outcome: Outcome) -> dict[str, Any]:
    """Return what helps to find out why: servers, the variables of passwords, times of phases."""
    smtp, imap = outcome.route.sender.smtp, outcome.route.recipient.imap
    return {
        "token": outcome.token,
        "smtp": smtp and f"{smtp.host}:{smtp.port}",
        "smtp_password": smtp and smtp.password_env,
        "imap": imap and f"{imap.host}:{imap.port}",
        "imap_password": imap and imap.password_env,
        "phases_ms": {phase.value: round(ms, 1) for phase, ms in outcome.phases_ms.items()},
        "replies": outcome.reply_codes,
    }


async def serve(settings: Settings, bootstrap: str, clock: Clock) -> None:
    """Probe until told to stop; Kafka's address may be empty: then outcomes are not written."""
    path = config_path(settings.probe.config, os.environ)
    write_example(path, os.environ)
    files = Files(path, os.environ, clock, settings.probe.listen)
    means = means_for(files.current, clock)
    key = probe_key(privacy_key(settings), origin_of(settings, files.current))
    try:
        await service.serve(parts_of(settings, bootstrap, clock, files, Legs(key, means)))
    finally:
        means.executor.shutdown(wait=False, cancel_futures=True)


def parts_of(
    settings: Settings, bootstrap: str, clock: Clock, files: Files, legs: Legs
) -> list[service.Part]:
    """Return the parts of the process, in the order in which they start."""
    registry = CollectorRegistry()
    metrics = ProbeMetrics(registry, files.current.options.series_prefix)
    component = ComponentMetrics(registry, NAME, (*Reason, *Drop))
    way = _way(settings, bootstrap, clock, component) if bootstrap else None
    privacy = privacy_rules(settings, SOURCE)
    maker = RecordMaker(origin_of(settings, files.current), privacy)
    teller = Teller(lambda: files.current, privacy, metrics, maker, component, way)
    rounds = Schedule(files.current, legs, metrics, clock, teller.tell)
    _log_as_asked(files.current)

    async def apply(config: ProbeConfig) -> None:
        _log_as_asked(config)
        await rounds.apply(config)

    files.feed(metrics, apply)
    web = Web(settings, files, registry, metrics, _health(files, way))
    beside: list[service.Part] = [
        Queue(lambda: files.current, metrics, clock),
        Sweep(lambda: files.current, legs, metrics, clock),
    ]
    if way is None:
        log.info("no Kafka is configured: outcomes are shown, and not written")
        return [web, files, *beside, rounds]
    way.show_held(registry, NAME)
    return [web, way.appender, way.outbox, files, *beside, rounds]


def _way(settings: Settings, bootstrap: str, clock: Clock, component: ComponentMetrics) -> Spooled:
    probe = settings.probe
    return Spooled(
        settings,
        bootstrap,
        clock,
        NAME,
        TOPIC,
        component,
        Drop.SPOOL_FULL,
        buffer_bytes=probe.buffer_bytes,
        spool_bytes=probe.spool_bytes,
    )


def _health(files: Files, way: Spooled | None) -> Callable[[], Mapping[str, Any]]:
    kafka = None if way is None else way.health([])

    def health() -> Mapping[str, Any]:
        told: dict[str, Any] = {
            "status": OK,
            "routes": len(files.current.routes),
            "file": "broken; an older one is in use" if files.broken else "in use",
        }
        return told if kafka is None else {**kafka(), **told}

    return health


def _log_as_asked(config: ProbeConfig) -> None:
    level = logging.DEBUG if config.access.debug else logging.NOTSET
    logging.getLogger(__name__.rpartition(".")[0]).setLevel(level)
