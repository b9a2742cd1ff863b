"""``make bench``: measure speed, memory and freshness, and hold the figures against their bars."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final

from bench import drain, figures, gelf, ingest, probe, refold_hour, replay, rollups, steady, view
from bench.figures import Figure
from pipeline.transport.compression import ZSTD_LEVEL
from pipeline.transport.options import EngineOptions
from tests.kit.own_broker import own_broker

EVENTS: Final = 1_000_000
UNCOMPRESSED: Final = "bench.uncompressed_worker"
HEAP: Final = "1g"
"""Of the broker: what the local one has by default."""

Bench = Callable[[str, Path, int], Iterator[Figure]]


def _codec() -> str:
    """Return the codec of what workers write."""
    codec = next(one.default for one in fields(EngineOptions) if one.name == "compression")
    return f"zstd level {ZSTD_LEVEL}" if codec == "zstd" else str(codec)


def _drain(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    yield from drain.measure(bootstrap, folder, events, codec=_codec())


def _drain_uncompressed(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    yield from drain.measure(bootstrap, folder, events, codec="none", instead=[UNCOMPRESSED])


def _refold_hour(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    del events
    yield from refold_hour.measure(bootstrap, folder)


def _rollups(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    del events
    yield from rollups.measure(bootstrap, folder)


def _steady(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    del events
    yield from steady.measure(bootstrap, folder)


def _ingest(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    yield from ingest.measure(bootstrap, folder, events)


def _gelf(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    yield from gelf.measure(bootstrap, folder, events)


def _probe(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    del events
    yield from probe.measure(bootstrap, folder)


def _replay(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    yield from replay.measure(bootstrap, folder, events)


def _view(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    del bootstrap, folder, events
    yield from view.measure()


BENCHES: Final[dict[str, Bench]] = {
    "drain": _drain,
    "drain-uncompressed": _drain_uncompressed,
    "refold-hour": _refold_hour,
    "rollups": _rollups,
    "steady": _steady,
    "ingest": _ingest,
    "gelf": _gelf,
    "probe": _probe,
    "view": _view,
    "replay": _replay,
}


def main() -> int:
    """Run the benches and return 1 if a figure fell below 70 % of this machine's record."""
    options = argparse.ArgumentParser(prog="bench", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    options.add_argument("--events", type=int, default=EVENTS, help="events of the large loads")
    options.add_argument("--record", action="store_true", help="append to bench/records.jsonl")
    chosen = options.parse_args()
    unknown = set(chosen.names) - BENCHES.keys()
    if unknown:
        options.error(f"no such bench: {', '.join(sorted(unknown))}")
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="mailstream-bench-") as folder:
        for name in chosen.names or BENCHES:
            with own_broker(HEAP) as broker:
                for figure in BENCHES[name](broker.bootstrap, Path(folder, name), chosen.events):
                    print(json.dumps(figure.line()), flush=True)
                    found.append(figure)
    text, holds = figures.table(found)
    print(text, file=sys.stderr)
    if chosen.record:
        figures.record(found)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
