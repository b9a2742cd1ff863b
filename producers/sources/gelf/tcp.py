"""GELF over TCP: frames that end with a zero byte; a connection is read no faster than Kafka takes."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections import Counter as Multiset
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from pipeline.core.errors import ConfigError, Reason, TransientError
from pipeline.kit import listen
from pipeline.kit.clock import Clock
from pipeline.kit.retry import Backoff
from pipeline.kit.settings import Settings
from pipeline.kit.telemetry import Stage
from pipeline.kit.values import Address
from producers.appender import Appender, by_partition
from producers.gelf.metrics import GelfMetrics
from producers.gelf.records import TOPIC, Drop, RecordMaker
from producers.haul import Haul

log = logging.getLogger(__name__)

READ_BYTES: Final = 65_536
_END: Final = b"\0"
_BETWEEN: Final = b"\0 \t\r\n"
_STOP_S: Final = 4.0
_BACKOFF: Final = Backoff(base_s=0.2, cap_s=2.0, deadline_s=None)


class Closed(StrEnum):
    """Why a connection was closed by us; becomes the metric label ``reason``."""

    NOT_ALLOWED = "not_allowed"
    NOT_GELF = "not_gelf"
    """It does not begin as a message does.  A web page in a browser here could connect too."""
    TOO_MANY = "too_many_connections"
    TOO_LARGE = "too_large"
    """A frame is longer than ``gelf.max_message_bytes``."""
    IDLE = "idle"
    """It said nothing for ``gelf.idle_timeout``, before its first message or within one."""
    OVERFLOW = "overflow"
    """All connections together hold too much of unfinished frames."""


_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""So the kernel ends connections of peers that are gone, which might wait silently for ever."""
_SPOILT: Final[dict[Closed, StrEnum]] = {
    Closed.NOT_GELF: Reason.MALFORMED,
    Closed.TOO_LARGE: Reason.TOO_LARGE,
}
"""Where a message is dropped with its connection."""


class TcpInput:
    """A part of the process: the listener and its connections."""

    name = "tcp"

    def __init__(
        self,
        settings: Settings,
        maker: RecordMaker,
        appender: Appender,
        metrics: GelfMetrics,
        registry: CollectorRegistry,
        clock: Clock,
    ) -> None:
        """Take connections at ``settings.gelf.tcp``, which must be set, and write to *appender*."""
        assert settings.gelf.tcp is not None, "made only where it is to listen"
        self._settings = settings.gelf
        self._listen = settings.gelf.tcp
        self._topic = settings.topics.names.of(TOPIC)
        self._partitions = settings.topics.partitions
        self._maker = maker
        self._appender = appender
        self._metrics = metrics
        self._clock = clock
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy
        self._sequence = clock.now_ms() << 20
        self._held = 0
        """Bytes of unfinished frames."""
        self._server: asyncio.Server | None = None
        self._port = self._listen.port
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        open_now = Gauge(
            "mailstream_gelf_connections", "TCP connections that are open.", registry=registry
        )
        open_now.set_function(lambda: len(self._connections))

    @property
    def address(self) -> Address:
        """Return where it listens: the configured address until it was started."""
        return Address(self._listen.host, self._port)

    async def start(self) -> None:
        """Begin to listen."""
        tls = self._tls()
        bound = await listen.bind(self._listen)
        for option in _KEEPALIVE:
            bound.setsockopt(*option)  # connections have them from the listener
        self._port = bound.getsockname()[1]
        self._server = await asyncio.start_server(
            self._connected, sock=bound, ssl=tls, limit=READ_BYTES
        )
        log.info("taking GELF connections", extra={"address": str(self.address)})

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take no more; what was read is written if Kafka takes it soon."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            writer.close()
        tasks = list(self._connections)
        if tasks:
            _done, late = await asyncio.wait(tasks, timeout=_STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tls(self) -> ssl.SSLContext | None:
        context = listen.server_tls(self._settings.tcp_tls_cert, self._settings.tcp_tls_key)
        authority = self._settings.tcp_client_ca
        if context is not None and authority is not None:
            try:
                context.load_verify_locations(authority)
            except OSError as exc:  # ssl.SSLError too
                raise ConfigError([f"gelf.tcp_client_ca: cannot be used: {exc}"]) from exc
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        address = peer[0].removeprefix("::ffff:") if peer else ""  # IPv4 before both families
        allow = self._settings.allow
        if allow and not listen.is_allowed(allow, address):
            self._close(writer, Closed.NOT_ALLOWED)
            return
        if len(self._connections) >= self._settings.max_connections:
            self._close(writer, Closed.TOO_MANY)
            return
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task of its own"
        self._connections[task] = writer
        try:
            await self._serve(reader, writer, address)
        except OSError as exc:  # the peer is gone
            log.debug("a connection broke", extra={"error": str(exc)})
        finally:
            del self._connections[task]
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str
    ) -> None:
        rest = bytearray()
        begun = False
        try:
            while data := await self._read(
                reader, writer, between=begun and (not rest or rest.isspace())
            ):
                if not begun and (start := data.lstrip(_BETWEEN)):
                    begun = True
                    if not start.startswith(b"{"):
                        self._close(writer, Closed.NOT_GELF)
                        return
                self._held += len(data)
                *frames, last = data.split(_END)
                if frames:
                    frames[0] = bytes(rest) + frames[0]
                    self._held -= len(rest) + len(data) - len(last)
                    rest.clear()
                rest += last
                await self._take(frames, address)
                reason = self._too_much(rest)
                if reason is not None:
                    self._close(writer, reason)
                    return
            # Some senders close, or wait, instead of ending the frame.
            await self._take([bytes(rest)], address)
        finally:
            self._held -= len(rest)

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, between: bool
    ) -> bytes:
        """Return what comes next; nothing if the connection ends, or was too long silent and is closed.

        Between messages it may be silent: what a sender writes into a closed connection is lost.
        """
        wait_s = None if between else self._settings.idle_timeout / 1000
        limit = asyncio.timeout(wait_s)
        try:
            async with limit:
                return await reader.read(READ_BYTES)
        except TimeoutError:  # the peer's, too, where it is gone
            if not limit.expired():
                raise
            self._close(writer, Closed.IDLE)
            return b""

    def _too_much(self, rest: bytearray) -> Closed | None:
        if len(rest) > self._settings.max_message_bytes:
            return Closed.TOO_LARGE
        return Closed.OVERFLOW if self._held > self._settings.pending_bytes else None

    async def _take(self, frames: list[bytes], address: str) -> None:
        haul, received_ms = Haul(), self._clock.now_ms()
        for frame in frames:
            payload = frame.strip()
            if payload:
                self._sequence += 1
                self._maker.take(payload, address, f"{address} {self._sequence}", received_ms, haul)
        self._metrics.count(haul)
        if haul.records:
            await self._write(haul)

    async def _write(self, haul: Haul) -> None:
        """Write the records, however long that takes: meanwhile nothing is read."""
        outputs = by_partition(haul.records, self._topic, self._partitions)
        attempt = 0
        written = False
        try:
            while not written:
                try:
                    await self._appender.append(outputs)
                    written = True
                except TransientError:
                    self._metrics.component.failed(Drop.UNAVAILABLE, Stage.SENDING)
                    await self._clock.sleep(_BACKOFF.wait_s(attempt, self._random))
                    attempt += 1
        finally:
            if written:
                self._metrics.component.sent(len(haul.records))
                self._metrics.component.succeeded(self._clock.now_ms())
            else:
                self._metrics.component.discarded(Drop.UNAVAILABLE, len(haul.records))

    def _close(self, writer: asyncio.StreamWriter, reason: Closed) -> None:
        self._metrics.component.failed(reason, Stage.RECEIVING)
        if reason in _SPOILT:
            self._metrics.count(Haul(1, discarded=Multiset({_SPOILT[reason]: 1})))
        writer.close()
