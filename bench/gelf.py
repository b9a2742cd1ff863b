"""GELF datagrams sent to the service at a fixed rate: how many a core takes, and whether any are lost."""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import orjson

from bench.figures import Figure
from tests.kit.gelf import numbered
from tests.kit.processes import Gelf, wait_until
from tests.kit.stand import stand

RATE: Final = 20_000
DISTINCT: Final = 20_000
BURST_S: Final = 0.002
WARM: Final = 2 * RATE
LONGEST_S: Final = 20
DRAINED_S: Final = 60.0
SENT: Final = "mailstream_component_sent_events_total"
DROPPED: Final = "mailstream_gelf_kernel_dropped_datagrams_total"


def measure(bootstrap: str, folder: Path, events: int) -> Iterator[Figure]:
    """Yield what a core takes and what is lost of *events* datagrams at :data:`RATE` a second."""
    datagrams = [zlib.compress(orjson.dumps(message)) for message in numbered(DISTINCT)]
    count = min(events, LONGEST_S * RATE)
    with stand(bootstrap, folder) as st:
        gelf = st.gelf()
        wait_until(lambda: gelf.health()["kafka"] == "reachable", "Kafka is there", within_s=60)
        _send(gelf, datagrams, WARM)
        cpu_s = gelf.cpu_s()
        before = gelf.value(DROPPED)
        seconds = _send(gelf, datagrams, count)
        cpu_s = gelf.cpu_s() - cpu_s
        lost = gelf.value(DROPPED) - before
        size = sum(map(len, datagrams)) // len(datagrams)
        more = {"datagrams": count, "datagram_bytes": size, "rate": round(count / seconds)}
        buffer = int(gelf.value("mailstream_gelf_receive_buffer_bytes"))
        yield Figure("gelf.udp", count / cpu_s, "datagrams/s of one core", RATE, more=more)
        yield Figure(
            "gelf.udp_lost",
            lost / count * 100,
            "% of the datagrams",
            0,
            at_most=True,
            more={**more, "receive_buffer_bytes": buffer, "peak_mb": gelf.peak_bytes() >> 20},
        )


def _send(gelf: Gelf, datagrams: Sequence[bytes], count: int) -> float:
    """Send *count* datagrams in time, wait until what came is in Kafka, and return the seconds."""
    address = "127.0.0.1", gelf.port("udp")
    burst = int(RATE * BURST_S)
    some = islice(cycle(datagrams), count)
    began = time.perf_counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(0, count, burst):
            ahead = began + number / RATE - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            for datagram in islice(some, burst):
                sender.sendto(datagram, address)
    seconds = time.perf_counter() - began
    wait_until(lambda: _settled(gelf), "everything is written", within_s=DRAINED_S)
    return seconds


def _settled(gelf: Gelf) -> bool:
    """Tell whether all that was received is in Kafka."""
    received = gelf.value("mailstream_component_received_events_total")
    discarded = gelf.value("mailstream_component_discarded_events_total")
    return received > 0 and received == gelf.value(SENT) + discarded
