"""A broker that a test may stop, freeze and kill."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailstream.local_kafka import LocalKafka
from tests.kit.broker import HEAP
from tests.kit.processes import Watch


class OwnBroker:
    """One local broker, at the same address however often it is started."""

    def __init__(self, folder: Path, heap: str = HEAP) -> None:
        self._kafka = LocalKafka(folder, port=0, heap=heap)
        self._watch: Watch | None = None
        self.bootstrap = ""

    def start(self) -> None:
        """Start it, or start it again; return when it answers."""
        bootstrap = self._kafka.start()
        assert self.bootstrap in ("", bootstrap), "its address changed"
        self.bootstrap = bootstrap
        self._watch = Watch(self._pid())

    def stop(self) -> None:
        """End it in order."""
        self._forget()
        self._kafka.stop()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        os.kill(self._pid(), signal.SIGKILL)
        self.stop()

    def ensure(self) -> None:
        """Start it unless it runs."""
        if not self._kafka.status().running:
            self._forget()
            self.start()

    def _pid(self) -> int:
        pid = self._kafka.status().pid
        assert pid is not None, "the broker is not running"
        return pid

    def _forget(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None


@contextmanager
def own_broker(heap: str = HEAP) -> Iterator[OwnBroker]:
    """Yield a running broker in a folder of its own; in the end both are gone."""
    with tempfile.TemporaryDirectory(prefix="mailstream-own-") as folder:
        broker = OwnBroker(Path(folder), heap)
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()
