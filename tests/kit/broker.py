"""One real broker for a test session, gone with the session however that ends."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mailstream.local_kafka import LocalKafka

HEAP: Final = "512m"

# Its standard input is a pipe that only the session holds open: the end of the session, even by
# SIGKILL, is the end of the pipe.
_WATCH: Final = 'cat >/dev/null; kill -KILL "$1" 2>/dev/null; rm -rf "$2"'


@contextmanager
def session_broker() -> Iterator[str]:
    """Yield a bootstrap address: of ``KAFKA_BOOTSTRAP`` if set, else of a broker of our own."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="mailstream-kafka-") as folder:
        kafka = LocalKafka(Path(folder), port=0, heap=HEAP)
        bootstrap = kafka.start()
        try:
            with _watched(kafka.status().pid, folder):
                yield bootstrap
        finally:
            kafka.stop()


@contextmanager
def _watched(pid: int | None, folder: str) -> Iterator[None]:
    """Kill *pid* and remove *folder* if this process ends before the block does."""
    watch = subprocess.Popen(
        ["sh", "-c", _WATCH, "watch", str(pid), folder],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watch.kill()
        watch.communicate()
