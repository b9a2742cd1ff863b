"""What the engine hands to the pure steps, and what they hand back.

The transport driver knows Kafka and transactions; enrich and fold know mail.  They meet
in these types, so that neither imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from pipeline.core.rollup import Cut


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(Protocol):
    """One Kafka record as read (aiokafka's ``DefaultRecord`` satisfies it as it is)."""

    @property
    def offset(self) -> int:
        """Place in the partition."""

    @property
    def timestamp(self) -> int | None:
        """Kafka's record time, milliseconds since the epoch."""

    @property
    def key(self) -> bytes | None:
        """Record key."""

    @property
    def value(self) -> bytes | None:
        """Record value; None is a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Record headers in order."""


_R = TypeVar("_R", bound=Record)


class OutRecord(NamedTuple):
    """One record to be written."""

    value: bytes
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class Output(NamedTuple):
    """Records for one partition of one topic."""

    topic: str
    partition: int
    records: Sequence[OutRecord]


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one batch of a source partition turned into.

    Everything in *outputs* and the offset after the batch are committed in one Kafka
    transaction; *on_commit* is called once, after that commit succeeded, and is the only
    place where a step may change its state.  A step that fails is called again with the
    same records, so computing a result twice must give the same result.
    """

    outputs: Sequence[Output]
    events: int = 0
    on_commit: Callable[[], None] = field(default=_nothing)


class SourceStep(Protocol):
    """Phase 1, as the transport sees it.  One state per source partition."""

    def open(self, tp: TopicPartition) -> None:
        """Begin a partition with empty state; called on assignment, before any warm-up."""

    def warm(self, tp: TopicPartition, seen: bytes) -> None:
        """Take one value of ``mail.seen`` that was written by *tp*, oldest first."""

    def on_batch(
        self, tp: TopicPartition, records: Sequence[Record], start: int, end: int, now_ms: int
    ) -> StepResult:
        """Turn the records of log positions ``[start, end)`` into outputs.  Pure until ``on_commit``."""

    def dead_letter(
        self, tp: TopicPartition, record: Record, error: BaseException, now_ms: int
    ) -> StepResult:
        """Turn one record on which :meth:`on_batch` raised into a dead letter (and its seen run)."""

    def close(self, tp: TopicPartition) -> None:
        """Forget the partition's state: it was revoked or must be recovered."""


class FoldStep(Protocol):
    """Phase 2, as the transport sees it.  One state per partition of ``mail.deltas``."""

    def open(self, partition: int) -> None:
        """Begin a partition with empty panes; it re-folds and must not be exported."""

    def fold(self, partition: int, records: Sequence[Record], now_ms: int) -> None:
        """Add the frames to the partition's panes.

        Raises:
            FrameVersionError: A frame is newer than this program.
        """

    def complete(self, partition: int) -> None:
        """The fold has reached the last stable offset read at assignment: export it."""

    def close(self, partition: int) -> None:
        """Drop the partition's panes."""


class RollupStep(FoldStep, Protocol):
    """Phase 2 with roll-ups: recovers from them, and makes them."""

    @property
    def schema(self) -> str:
        """What roll-up frames of this step hold; frames of another schema are of no use to it."""

    def restore(self, partition: int, frames: Sequence[bytes], now_ms: int) -> None:
        """Add roll-up frames; all of them before :meth:`follow` and the first delta frame."""

    def follow(self, partition: int, cut: Cut) -> None:
        """Count a delta record from now on only where no frame up to *cut* has its rows."""

    def publish_from(self, partition: int, cut: Cut) -> None:
        """Instead of :meth:`follow`, in a new epoch: only panes for consumers go on from *cut*."""

    def lack(self, partition: int, before_ms: int) -> None:
        """Deltas of panes which begin before *before_ms* may be gone, or are not read."""

    def closing(
        self, partition: int, now_ms: int, monotonic_ms: int, *, caught_up: bool, late: bool
    ) -> Mapping[int, int] | None:
        """Return ``closed_until`` of a roll-up that is due, or None.

        Args:
            partition: An open partition.
            now_ms: The wall clock.
            monotonic_ms: A clock that nobody sets.
            caught_up: Whether nothing of the log waits to be folded.
            late: Whether late rows may be written now; until then they hold back the roll-up.
        """

    def rollup(self, partition: int, until: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """Return the frames of a roll-up, each with its pane length; nothing changes."""

    def rolled_up(self, partition: int, until: Mapping[int, int]) -> bool:
        """The frames were committed, and nothing was folded since; tell whether late rows were in."""


class Witness(Protocol):
    """Gathers what events tell of the keys of alerts."""

    @property
    def since_ms(self) -> int:
        """From which record time on events are of interest."""

    def take(self, value: bytes) -> None:
        """Take one value of ``mail.events``; what is no event is passed over."""


class Told(NamedTuple):
    """What an :class:`AlertStep` has to write."""

    alerts: Sequence[OutRecord]
    frames: Sequence[bytes]
    """What was learned of closed panes; at least one, so that the transaction can be found again."""


class AlertStep(Protocol):
    """Looks for anomalies in the panes of a :class:`RollupStep`.  One state per partition."""

    def open(self, partition: int) -> None:
        """Begin without a past."""

    def restore(self, partition: int, alerts: Sequence[bytes]) -> int:
        """Take the values of all earlier alerts, in the order of the log; tell how many are none."""

    def learn(self, partition: int, frame: bytes, closed_until: Mapping[int, int]) -> None:
        """Take a frame of :class:`Told` that was written, oldest first, after the alerts."""

    def look(self, partition: int) -> None:
        """Judge the panes that are not closed."""

    def judge(self, partition: int, until: Mapping[int, int]) -> None:
        """Judge the panes that a roll-up closes; asked again, none is judged twice."""

    def has_alerts(self, partition: int) -> bool:
        """Tell whether there are alerts to write."""

    def witness(self, partition: int) -> Witness | None:
        """Return what wants to see events before the alerts are written, if anything; each once."""

    def hear(self, partition: int) -> None:
        """Take what the witness saw."""

    def told(self, partition: int) -> Told:
        """Return what there is to write."""

    def written(self, partition: int, *, frames: bool = True) -> None:
        """All of it was committed, or the alerts alone, and nothing was judged since."""

    def close(self, partition: int) -> None:
        """Forget the partition, if it is open."""


def header(headers: Sequence[tuple[str, bytes]], name: str) -> bytes | None:
    """Return the first header called *name*, or None."""
    return next((value for key, value in headers if key == name), None)


def chunks(records: Sequence[_R], most_bytes: int) -> Iterator[Sequence[_R]]:
    """Cut *records* into runs that end with the record that brings them to *most_bytes*."""
    start = size = 0
    for place, record in enumerate(records):
        size += len(record.value or b"")
        if size >= most_bytes:
            yield records[start : place + 1]
            start, size = place + 1, 0
    if start < len(records):
        yield records[start:]


Counts = Mapping[tuple[str, ...], int]
"""Increments of one counter family, by label values."""
