"""The Faust transport ``batches://``: Faust's application, agents and group, our batches.

Faust finds :class:`Transport` by the entry point ``faust.transports``.  What it adds: an agent
receives one :class:`~pipeline.transport.batch.RecordBatch` per event, and assignments are told
to the engine, which opens and closes partitions outside Faust's own machinery.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from typing import Any, Final, Protocol

import aiokafka
import faust
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as stock
from faust.types import ConsumerMessage
from mode import Service

from pipeline.core.batch import TopicPartition
from pipeline.transport.batch import BatchSchema, RecordBatch, Tap
from pipeline.transport.options import EngineOptions
from pipeline.transport.reader import ReaderThread

SCHEME: Final = "batches"
NEVER_S: Final = 10 * 365 * 86_400.0


class Assignments(Protocol):
    """What the driver tells the engine."""

    options: EngineOptions

    async def on_revoked(self, reader: ReaderThread) -> None:
        """All partitions are up for reassignment: return when nothing is being written."""

    async def on_assigned(self, reader: ReaderThread, tps: set[TopicPartition]) -> None:
        """Exactly *tps* belong to this worker now; must return at once."""

    def on_heartbeat(self) -> None:
        """The group coordinator answered a heartbeat; called in the reading thread."""

    def on_read_failure(self, tap: Tap, error: BaseException) -> None:
        """Reading through *tap* ended."""


class _Unremembered(defaultdict[TopicPartition, None]):
    """Offsets read, as Faust keeps them to drop what it sees twice.

    A batch that is read again after a seek must not be dropped; its tap and start tell whether
    it is the one that is wanted.
    """

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def __setitem__(self, tp: TopicPartition, offset: object) -> None:
        """Forget."""


class BatchConsumer(stock.Consumer):  # type: ignore[misc]  # faust is untyped here
    """Faust's consumer without offsets, seeks and commits of its own."""

    logger = logging.getLogger("mode")  # else its lines about services come under our name

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take Faust's arguments."""
        super().__init__(*args, **kwargs)
        self._read_offset = _Unremembered()

    def _new_consumer_thread(self) -> ReaderThread:
        loop: Any = type(self.loop)
        thread = ReaderThread(self, loop=self.loop, beacon=self.beacon, thread_loop=loop())
        engine: Assignments = self.app.engine
        thread.options = engine.options
        thread.on_heartbeat = engine.on_heartbeat
        thread.on_failure = engine.on_read_failure
        return thread

    def _to_message(self, tp: TopicPartition, record: RecordBatch) -> Any:
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            record.end - 1,
            time.time(),
            0,
            None,
            None,
            record,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Finish what is being written, then let Faust go on with the rebalance."""
        await self.app.engine.on_revoked(self._thread)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[Any], generation_id: int = 0) -> None:
        """Let Faust set up its streams, then open the partitions."""
        await super().on_partitions_assigned(assigned, generation_id)
        tps = {TopicPartition(*tp) for tp in assigned}
        await self.app.engine.on_assigned(self._thread, tps)

    async def perform_seek(self) -> None:
        """Do nothing: each partition seeks when it is open."""

    async def commit(self, *_: Any, **__: Any) -> bool:
        """Do nothing: offsets are committed with the outputs, in their transaction."""
        return False

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Say nothing of slow streams."""

    @Service.task  # type: ignore[untyped-decorator]  # faust is untyped here
    async def _commit_handler(self) -> None:
        """Replace Faust's periodic commit."""

    @Service.task  # type: ignore[untyped-decorator]  # faust is untyped here
    async def _commit_livelock_detector(self) -> None:
        """Replace Faust's watch over its commits."""


class Transport(stock.Transport):  # type: ignore[misc]  # faust is untyped here
    """What the entry point names."""

    Consumer = BatchConsumer
    driver_version = f"mailstream aiokafka={aiokafka.__version__}"


class _Boot(BootStrategy):  # type: ignore[misc]  # faust is untyped here
    """No producer (each partition has its own), no web server."""

    enable_kafka_producer = False
    enable_web = False


class BatchApp(faust.App):  # type: ignore[misc]  # faust is untyped here
    """A Faust application that is set up by the engine alone."""

    logger = logging.getLogger("mode")  # else its lines about services come under our name

    BootStrategy = _Boot

    def __init__(self, app_id: str, engine: Assignments) -> None:
        """Name the group; no option comes from the environment."""
        self.engine = engine
        options = engine.options
        super().__init__(
            app_id,
            env={},
            broker=f"{SCHEME}://engine",
            # Faust tells workers apart by this address; ours serve no Faust pages.
            canonical_url=f"http://{uuid.uuid4().hex}.invalid",
            autodiscover=False,
            store="memory://",
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            stream_wait_empty=False,
            stream_recovery_delay=0.0,
            broker_commit_interval=NEVER_S,
            broker_session_timeout=options.session_timeout_ms / 1000,
            broker_heartbeat_interval=options.heartbeat_ms / 1000,
            broker_request_timeout=options.request_timeout_ms / 1000,
            worker_redirect_stdouts=False,
        )

    def _create_directories(self) -> None:
        """Make no folders: there are no tables."""

    def batches(self, *topics: str) -> Any:
        """Return the channel of whole batches of *topics*, for an agent."""
        return self.topic(*topics, schema=BatchSchema(), acks=False)
