"""The file in use, and newer versions of it: taken when it changes or when asked to.

A version that cannot be used is told once, and the one before stays in use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from pipeline.core.errors import ConfigError
from pipeline.kit.clock import Clock
from pipeline.kit.values import Address
from producers.sources.probe.config import DEFAULT_LISTEN, ProbeConfig
from producers.sources.probe.config_read import read_config
from producers.sources.probe.environment import NAME as ENV_FILE
from producers.sources.probe.metrics import ProbeMetrics

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
_SETTLED_S: Final = 0.3

Stamp = tuple[tuple[int, int, int], ...]
Apply = Callable[[ProbeConfig], Awaitable[None]]


class Files:
    """A part of the process: the file and the ``.env`` beside it."""

    name = "file"

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        clock: Clock,
        listen: Address = DEFAULT_LISTEN,
    ) -> None:
        """Read *path* for the first time.

        Raises:
            ConfigError: It cannot be used.
        """
        self._path = path
        self._environ = environ
        self._clock = clock
        self._listen = listen
        self._stamp = self._look()
        self.current = read_config(path, environ, listen)
        """The version in use."""
        self.broken: tuple[str, ...] = ()
        """What is wrong with the file as it is now, if it is not in use."""
        self._metrics: ProbeMetrics | None = None
        self._apply: Apply | None = None
        self._turn = asyncio.Lock()
        _tell_warnings(self.current)

    def feed(self, metrics: ProbeMetrics, apply: Apply) -> None:
        """Give each newer version to *apply*, and tell *metrics* of it."""
        self._metrics, self._apply = metrics, apply

    async def start(self) -> None:
        """Have nothing to begin."""

    async def stop(self) -> None:
        """Have nothing to end."""

    async def run(self) -> None:
        """Take each change of the files until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            seen = self._look()
            if seen == self._stamp:
                continue
            await self._clock.sleep(_SETTLED_S)
            # A file that is being written is empty for a moment: what still changes can wait.
            if self._look() == seen:
                await self.reload()

    async def reload(self) -> tuple[str, ...]:
        """Take the file as it is now; return what is wrong with it: then the old one stays."""
        async with self._turn:
            # Looked at before it is read: what is written in between is a change again.
            self._stamp = self._look()
            try:
                fresh = read_config(self._path, self._environ, self._listen)
            except ConfigError as exc:
                return self._stays(exc.mistakes)
            self.broken = ()
            self._tell_what_waits(fresh)
            _tell_warnings(fresh)
            self.current = fresh
            if self._apply is not None:
                await self._apply(fresh)
            self._tell(successful=True)
            log.info("the file is in use", extra={"path": str(self._path), **_counts(fresh)})
            return ()

    def _stays(self, mistakes: tuple[str, ...]) -> tuple[str, ...]:
        """Say that the version in use stays."""
        self.broken = mistakes
        for sentence in mistakes:
            log.error(
                "the new file cannot be used, the old one stays in use", extra={"reason": sentence}
            )
        self._tell(successful=False)
        return mistakes

    def _tell(self, *, successful: bool) -> None:
        if self._metrics is not None:
            self._metrics.reloaded(successful=successful)

    def _tell_what_waits(self, fresh: ProbeConfig) -> None:
        """Warn of changes that only a restart brings."""
        old, new = self.current.options, fresh.options
        for key, changed in (
            ("metrics_prefix", old.series_prefix != new.series_prefix),
            ("listen_addr, listen_port", old.listen(self._listen) != new.listen(self._listen)),
            ("origin", old.origin != new.origin),
        ):
            if changed:
                log.warning("a change needs a restart", extra={"reason": f"exporter.{key}"})

    def _look(self) -> Stamp:
        return tuple(_stamp_of(path) for path in (self._path, self._path.parent / ENV_FILE))


def _stamp_of(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def _counts(config: ProbeConfig) -> dict[str, int]:
    return {"routes": len(config.routes), "warnings": len(config.warnings)}


def _tell_warnings(config: ProbeConfig) -> None:
    for sentence in config.warnings:
        log.warning("the file has a flaw", extra={"reason": sentence, "path": str(config.path)})
