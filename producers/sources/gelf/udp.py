"""GELF datagrams: put together, made records of, and handed on without waiting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.kit.clock import Clock
from pipeline.kit.settings_gelf import GelfSettings
from pipeline.kit.values import Address
from producers.datagrams import Datagram, Datagrams
from producers.gelf.chunks import MAGIC, Assembler, ChunkLoss
from producers.gelf.metrics import GelfMetrics
from producers.gelf.records import Drop, RecordMaker
from producers.haul import Haul
from producers.outbox import Outbox

_EXPIRE_S: Final = 1.0


class UdpInput(Collector):
    """A part of the process: the datagrams."""

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
        self._datagrams = Datagrams(
            settings.udp,
            settings.allow,
            receive_buffer_bytes=settings.receive_buffer_bytes,
            feed="gelf",
            registry=registry,
            take=self._take,
        )
        self._maker = maker
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._assembler = Assembler(max_bytes=settings.pending_bytes)
        # Begins where no earlier process of ours can have come to.
        self._sequence = clock.now_ms() << 20
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
        return self._datagrams.address

    async def start(self) -> None:
        """Begin to receive."""
        await self._datagrams.start()

    async def run(self) -> None:
        """Receive until cancelled; now and then drop chunks that wait in vain."""
        while True:
            await self._clock.sleep(_EXPIRE_S)
            self._assembler.expire(self._clock.monotonic())
            self._count_lost()

    async def stop(self) -> None:
        """Take what the kernel still holds, then close."""
        self._datagrams.stop()
        self._count_lost()

    def collect(self) -> Iterable[Metric]:
        """Yield what is known only when asked for."""
        yield GaugeMetricFamily(
            "mailstream_gelf_pending_bytes",
            "Bytes of chunks that wait for the rest of their message.",
            self._assembler.held_bytes,
        )

    def _take(self, datagrams: Sequence[Datagram], refused: int) -> None:
        received_ms, haul = self._clock.now_ms(), Haul()
        haul.discard(Drop.NOT_ALLOWED, refused)
        for one in datagrams:
            self._take_one(one, received_ms, haul)
        self._outbox.put(haul.records)
        self._metrics.count(haul)

    def _take_one(self, datagram: Datagram, received_ms: int, haul: Haul) -> None:
        address, port = datagram.address, datagram.port
        payload: bytes | None = datagram.payload
        if datagram.payload[:2] == MAGIC:
            sender, now = (address, port), self._clock.monotonic()
            payload = self._assembler.take(sender, datagram.payload, now)
        if payload is not None:
            self._sequence += 1
            occurrence = f"{address} {port} {self._sequence}"
            self._maker.take(payload, address, occurrence, received_ms, haul)

    def _count_lost(self) -> None:
        for reason, number in self._assembler.lost.items():
            self._lost[reason].inc(number)
        self._assembler.lost.clear()
