"""A UDP socket: read many datagrams at a time, from allowed networks only, its losses counted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.kit import listen
from pipeline.kit.values import Address, Network

log = logging.getLogger(__name__)

AT_ONCE: Final = 200
"""Datagrams read before others have their turn: about 6 ms."""
LARGEST: Final = 65_535
_MAPPED: Final = "::ffff:"
"""How a socket of both families shows an IPv4 sender."""
_LAST_READS: Final = 200
"""When it stops: as much as a large receive buffer holds, be there a flood or not."""
_PROC: Final = (Path("/proc/net/udp"), Path("/proc/net/udp6"))


class Datagram(NamedTuple):
    """One datagram of a network that may send."""

    payload: bytes
    address: str
    """Of the sender; IPv4 as itself."""
    port: int


class Datagrams(Collector):
    """The socket; whoever has it starts it and stops it."""

    def __init__(
        self,
        listen_at: Address,
        allow: Sequence[Network],
        *,
        receive_buffer_bytes: int,
        feed: str,
        registry: CollectorRegistry,
        take: Callable[[Sequence[Datagram], int], None],
    ) -> None:
        """Hand what comes to *take*.

        Args:
            listen_at: Where it listens.
            allow: Networks that may send; empty: any.
            receive_buffer_bytes: Asked of the kernel.
            feed: Names the metrics: ``mailstream_<feed>_receive_buffer_bytes``.
            registry: Where it counts what the kernel drops.
            take: Told the datagrams, and how many others came from networks that may not send.
        """
        self._listen = listen_at
        self._receive_buffer_bytes = receive_buffer_bytes
        self._feed = feed
        self._deliver = take
        self._allowed = lru_cache(8192)(
            lambda address: not allow or listen.is_allowed(tuple(allow), address)
        )
        self._buffer = bytearray(LARGEST)
        self._socket: socket.socket | None = None
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
        enlarge(self._socket, self._receive_buffer_bytes)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)
        log.info("taking datagrams", extra={"feed": self._feed, "address": str(self.address)})

    def stop(self) -> None:
        """Take what the kernel still holds, then close."""
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        for _ in range(_LAST_READS):
            if not self._read():
                break
        self._socket.close()
        self._socket = None

    def collect(self) -> Iterable[Metric]:
        """Yield what is known only when asked for."""
        drops = kernel_drops(self._socket) if self._socket is not None else None
        yield CounterMetricFamily(
            f"mailstream_{self._feed}_kernel_dropped_datagrams",
            "Datagrams that the kernel dropped because our receive buffer was full.",
            drops or 0,
        )
        yield GaugeMetricFamily(
            f"mailstream_{self._feed}_receive_buffer_bytes",
            "Receive buffer that the kernel gave for datagrams.",
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) if self._socket else 0,
        )

    def _read(self) -> bool:
        """Take up to :data:`AT_ONCE` datagrams; tell whether there may be more."""
        assert self._socket is not None, "read only while open"
        receive, buffer = self._socket.recvfrom_into, self._buffer
        datagrams: list[Datagram] = []
        refused = 0
        more = False
        for _ in range(AT_ONCE):
            try:
                size, sender = receive(buffer)
            except OSError:  # nothing more is there, or what the network said of an answer to none
                break
            address = sender[0].removeprefix(_MAPPED)
            if self._allowed(address):
                payload = bytes(memoryview(buffer)[:size])
                datagrams.append(Datagram(payload, address, sender[1]))
            else:
                refused += 1
        else:
            more = True
        if datagrams or refused:
            self._deliver(datagrams, refused)
        return more


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
