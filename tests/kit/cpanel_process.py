"""``mailstream produce cpanel`` as a process before simulated servers, and what it wrote."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.kit.kafka_read import Read, read_topics
from tests.kit.processes import Service, mailstream
from tests.kit.stand import Stand
from tests.kit.whm import Row, Whm, row_like

INTERVAL = "1s"


def section(url: str, servers: Sequence[Whm], **keys: Any) -> dict[str, Any]:
    """Return the section ``cpanel`` for *servers*, each named as its user."""
    return {
        "listen": "127.0.0.1:0",
        "servers": [
            {"name": one.user, "url": url, "user": one.user, "token": one.token, **keys}
            for one in servers
        ],
    }


def poller(st: Stand) -> Service:
    """Return the poller's process, started."""
    service = Service("cpanel", mailstream("produce", "cpanel", "--config", st.config), st.folder)
    service.start()
    return service


def fresh_row(number: int, **fields: Any) -> Row:
    """Return a row of this moment."""
    now_s = int(time.time())
    kind = ("success", "success", "defer", "failure")[number % 4]
    times = {"sendunixtime": now_s, "actionunixtime": now_s}
    return row_like(kind, msgid=f"1v{number:06x}-2dEf", **{**times, **fields})


class Traffic:
    """Mail on every server, until the block ends."""

    def __init__(self, servers: Sequence[Whm], per_second: int) -> None:
        self._servers = servers
        self._pause_s = 1 / per_second
        self._stopping = threading.Event()
        self.logged: Counter[str] = Counter()
        """Rows by server."""

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Log rows until the block ends."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def _run(self) -> None:
        for number in itertools.count():
            for whm in self._servers:
                whm.add(fresh_row(number))
                self.logged[whm.user] += 1
            if self._stopping.wait(self._pause_s):
                return


def raw_rows(st: Stand) -> list[Read]:
    """Return what a committed reader finds on the raw topic."""
    topic = [st.topic("raw.cpanel")]
    return asyncio.run(read_topics(st.bootstrap, topic, st.partitions))


def counted(rows: Sequence[Read]) -> Counter[str]:
    """Return how many rows there are, by server."""
    return Counter(one.header("origin") for one in rows)


def assert_each_row_once(st: Stand, logged: Mapping[str, int]) -> None:
    """Assert that the raw topic holds each logged row once, and nothing else."""
    rows = raw_rows(st)
    told = Counter((one.header("origin"), json.loads(one.value)["msgid"]) for one in rows)
    repeated = [key for key, count in told.items() if count > 1]
    assert not repeated, f"{len(repeated)} rows are there more than once: {repeated[:5]}"
    assert counted(rows) == logged
    assert len({one.header("id") for one in rows}) == len(rows)
