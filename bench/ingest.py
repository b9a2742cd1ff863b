"""Ingest over HTTP: what one event costs the service, in batches of 500 and alone.

Posters, broker and service share the machine's cores, so the figure that says something about the
service is events per second of its own CPU time: what one core of its own would take.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from bench.figures import Figure
from tests.kit.processes import Ingest
from tests.kit.stand import now_ms, stand
from tests.kit.traffic import plain

BATCH: Final = 500
CONNECTIONS: Final = 4
DISTINCT: Final = 100_000
"""Events that are posted again and again: ingest does not look for repeats."""
SINGLES: Final = 20_000
SINGLE_CONNECTIONS: Final = 32
WARM: Final = 10
_HEADERS: Final = {"Content-Type": "application/json"}


def measure(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    """Yield events per core and per second of *events* posted in batches, then of single posts."""
    now = now_ms()
    bodies = [one.body for one in plain(DISTINCT, seed=3, first_ms=now - 60_000, last_ms=now)]
    batches = [
        b'{"events":[' + b",".join(bodies[first : first + BATCH]) + b"]}"
        for first in range(0, len(bodies), BATCH)
    ]
    size = sum(map(len, bodies)) // len(bodies)
    with stand(bootstrap, folder) as st:
        ingest = st.ingest()
        _post(ingest, "/api/v1/email-events/batch", batches[:WARM], CONNECTIONS)
        count = max(1, events // BATCH)
        chosen = list(islice(cycle(batches), count))
        seconds, cpu_s = _post(ingest, "/api/v1/email-events/batch", chosen, CONNECTIONS)
        more = {"events": count * BATCH, "batch": BATCH, "event_bytes": size}
        peak = {"peak_mb": ingest.peak_bytes() >> 20}
        yield Figure(
            "ingest.batch", count * BATCH / cpu_s, "events/s of one core", 80_000, more=more
        )
        yield Figure("ingest.batch_wall", count * BATCH / seconds, "events/s", more=more | peak)
        singles = bodies[:SINGLES]
        seconds, cpu_s = _post(ingest, "/api/v1/email-events", singles, SINGLE_CONNECTIONS)
        more = {"events": len(singles), "connections": SINGLE_CONNECTIONS, "event_bytes": size}
        yield Figure("ingest.single", len(singles) / cpu_s, "events/s of one core", more=more)
        yield Figure("ingest.single_wall", len(singles) / seconds, "events/s", more=more)


def _post(
    ingest: Ingest, path: str, bodies: Sequence[bytes], connections: int
) -> tuple[float, float]:
    """Post all *bodies* and return the seconds that it took and the CPU seconds of the service."""
    address = ingest.address()
    assert address is not None, "the service is announced"
    failures: list[str] = []
    posters = [
        threading.Thread(target=_run, args=(address, path, bodies[part::connections], failures))
        for part in range(connections)
    ]
    began, cpu_s = time.perf_counter(), ingest.cpu_s()
    for poster in posters:
        poster.start()
    for poster in posters:
        poster.join()
    if failures:
        raise RuntimeError(f"posting failed: {failures[0]}")
    return time.perf_counter() - began, ingest.cpu_s() - cpu_s


def _run(address: str, path: str, bodies: Sequence[bytes], failures: list[str]) -> None:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        for body in bodies:
            connection.request("POST", path, body, _HEADERS)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != http.client.ACCEPTED or b'"rejected":[]' not in said:
                failures.append(f"{answer.status} {said[:200]!r}")
                return
    except OSError as exc:
        failures.append(str(exc))
    finally:
        connection.close()
