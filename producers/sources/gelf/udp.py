"""GELF datagrams: read many at a time, put together, made records of, and handed on without waiting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.kit import listen
from pipeline.kit.clock import Clock
from pipeline.kit.settings_gelf import GelfSettings
from pipeline.kit.values import Address
from producers.gelf.chunks import MAGIC, Assembler, ChunkLoss
from producers.gelf.metrics import GelfMetrics
from producers.gelf.records import Drop, Haul, RecordMaker
from producers.outbox import Outbox

log = logging.getLogger(__name__)

AT_ONCE: Final = 200
"""Datagrams read before others have their turn: about 6 ms."""
LARGEST: Final = 65_535
_MAPPED: Final = "::ffff:"
"""How a socket of both families shows an IPv4 sender."""
_LAST_READS: Final = 200
"""When it stops: as much as a large receive buffer holds, be there a flood or not."""
_EXPIRE_S: Final = 1.0
_PROC: Final = (Path("/proc/net/udp"), Path("/proc/net/udp6"))


class UdpInput(Collector):
    """A part of the process: the datagram socket."""

    name = "udp"

    def __init__(
        self,
        settings: GelfSettings,
        maker: RecordMaker,
        outbox: Outbox,
        metrics: GelfMetrics,
        registry: CollectorRegistry,
        clock: Clock,
    ) -> None:
        """Take datagrams at ``settings.udp``, which must be set, and put records into *outbox*."""
        assert settings.udp is not None, "made only where it is to listen"
        self._settings = settings
        self._listen = settings.udp
        self._maker = maker
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._assembler = Assembler(max_bytes=settings.pending_bytes)
        self._allowed = lru_cache(8192)(
            lambda address: not settings.allow or listen.is_allowed(settings.allow, address)
        )
        self._buffer = bytearray(LARGEST)
        # Begins where no earlier process of ours can have come to.
        self._sequence = clock.now_ms() << 20
        self._socket: socket.socket | None = None
        chunks = Counter(
            "mailstream_gelf_chunks_lost_total",
            "Chunks of GELF messages that were dropped, by reason.",
            ["reason"],
            registry=registry,
        )
        self._lost = {reason: chunks.labels(reason.value) for reason in ChunkLoss}
        registry.register(self)

    @property
    def address(self) -> Address:
        """Return where it listens: the configured address until it was started."""
        if self._socket is None:
            return self._listen
        return Address(self._listen.host, self._socket.getsockname()[1])

    async def start(self) -> None:
        """Begin to receive."""
        self._socket = await listen.bind(self._listen, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        enlarge(self._socket, self._settings.receive_buffer_bytes)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)
        log.info("taking GELF datagrams", extra={"address": str(self.address)})

    async def run(self) -> None:
        """Receive until cancelled; now and then drop chunks that wait in vain."""
        while True:
            await self._clock.sleep(_EXPIRE_S)
            self._assembler.expire(self._clock.monotonic())
            self._count_lost()

    async def stop(self) -> None:
        """Take what the kernel still holds, then close."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            for _ in range(_LAST_READS):
                if not self._read():
                    break
            self._socket.close()
            self._socket = None
        self._count_lost()

    def collect(self) -> Iterable[Metric]:
        """Yield what is known only when asked for."""
        drops = kernel_drops(self._socket) if self._socket is not None else None
        yield CounterMetricFamily(
            "mailstream_gelf_kernel_dropped_datagrams",
            "Datagrams that the kernel dropped because our receive buffer was full.",
            drops or 0,
        )
        yield GaugeMetricFamily(
            "mailstream_gelf_receive_buffer_bytes",
            "Receive buffer that the kernel gave for datagrams.",
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) if self._socket else 0,
        )
        yield GaugeMetricFamily(
            "mailstream_gelf_pending_bytes",
            "Bytes of chunks that wait for the rest of their message.",
            self._assembler.held_bytes,
        )

    def _read(self) -> bool:
        """Take up to :data:`AT_ONCE` datagrams; tell whether there may be more."""
        assert self._socket is not None, "read only while open"
        receive, buffer = self._socket.recvfrom_into, self._buffer
        received_ms, haul = self._clock.now_ms(), Haul()
        more = False
        for _ in range(AT_ONCE):
            try:
                size, sender = receive(buffer)
            except OSError:  # nothing more is there, or what the network said of an answer to none
                break
            self._take(bytes(memoryview(buffer)[:size]), sender, received_ms, haul)
        else:
            more = True
        if haul.received:
            self._outbox.put(haul.records)
            self._metrics.count(haul)
        return more

    def _take(self, datagram: bytes, sender: tuple[str, int], received_ms: int, haul: Haul) -> None:
        address, port = sender[0].removeprefix(_MAPPED), sender[1]
        if not self._allowed(address):
            haul.received += 1
            haul.discarded[Drop.NOT_ALLOWED] += 1
            return
        payload: bytes | None = datagram
        if datagram[:2] == MAGIC:
            payload = self._assembler.take((address, port), datagram, self._clock.monotonic())
        if payload is not None:
            self._sequence += 1
            occurrence = f"{address} {port} {self._sequence}"
            self._maker.take(payload, address, occurrence, received_ms, haul)

    def _count_lost(self) -> None:
        for reason, number in self._assembler.lost.items():
            self._lost[reason].inc(number)
        self._assembler.lost.clear()


def enlarge(bound: socket.socket, size: int) -> None:
    """Ask for a receive buffer of *size* bytes; without rights the kernel caps it silently."""
    force = getattr(socket, "SO_RCVBUFFORCE", 33)  # Linux: beyond net.core.rmem_max, for root
    with contextlib.suppress(OSError):
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    with contextlib.suppress(OSError):
        bound.setsockopt(socket.SOL_SOCKET, force, size)


def kernel_drops(bound: socket.socket) -> int | None:
    """Return how many datagrams the kernel dropped before *bound*; None where it does not say."""
    inode = str(os.fstat(bound.fileno()).st_ino)
    for path in _PROC:
        try:
            lines = path.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[9] == inode:
                return int(columns[-1])
    return None
