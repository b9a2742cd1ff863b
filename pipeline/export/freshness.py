"""Whether the windows can be trusted: what is assigned, folded, behind, stopped or orphaned.

Delay.  "Now minus the time received of the last commit" alone would call an idle system delayed,
and a busy one late for the second after a pause.  So a partition on which nothing waits has no
delay; one on which records wait is as late as the newer of two moments: when it was last seen
with nothing waiting, and when the newest record that it is known to have worked off was received.
A partition that waits and has neither moment (it has just been opened on a backlog) has an
unknown delay, and the windows are not complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pipeline.core.batch import TopicPartition
from pipeline.core.engine_stats import EngineStats, PartitionStats
from pipeline.fold.board import Board

LATEST_DELAY_MS: Final = 30_000
"""Windows are not called complete when the worker is further behind."""


class Freshness:
    """Reads the engine's numbers; :meth:`observe` must be called every second or so."""

    def __init__(self, board: Board, stats: EngineStats, deltas_topic: str) -> None:
        """Tell partitions of *deltas_topic*, which are folded, from those of sources."""
        self._board = board
        self._stats = stats
        self._deltas_topic = deltas_topic
        self._caught_up: dict[TopicPartition, int] = {}

    def observe(self, now_ms: int) -> None:
        """Note which partitions have nothing waiting at *now_ms*."""
        partitions = self._stats.partitions
        self._caught_up = {tp: at for tp, at in self._caught_up.items() if tp in partitions}
        for tp, held in partitions.items():
            if held.ready and held.high_watermark <= held.position:
                self._caught_up[tp] = now_ms

    def is_member(self, now_ms: int) -> bool:
        """Tell whether the worker can still be the owner of its partitions."""
        return now_ms - self._stats.last_heartbeat_ms <= self._stats.session_timeout_ms

    def delay_ms(self, now_ms: int) -> int:
        """Return the longest known delay of the partitions that are ready."""
        return max((delay for delay in self._delays(now_ms) if delay is not None), default=0)

    def is_complete(self, now_ms: int) -> bool:
        """Tell whether the windows hold everything up to 30 s ago."""
        deltas = [tp.partition for tp in self._stats.partitions if tp.topic == self._deltas_topic]
        folded = self._board.partitions
        return (
            self.is_member(now_ms)
            and bool(deltas)
            and all(folded.get(partition, False) for partition in deltas)
            and not self.stopped()
            and all(
                delay is not None and delay <= LATEST_DELAY_MS for delay in self._delays(now_ms)
            )
        )

    def waiting(self, now_ms: int) -> list[str]:
        """Return a sentence for each reason why the worker is not ready."""
        partitions = self._stats.partitions
        if self._stats.rebalances == 0:
            return ["the worker has not joined its group yet"]
        folded = self._board.partitions
        reasons = [f"{_name(held.tp)} stopped: {held.stopped}" for held in self.stopped()]
        if not self.is_member(now_ms):
            reasons.append("the last heartbeat is older than the session timeout")
        for tp, held in sorted(partitions.items()):
            if held.stopped is None and tp.topic == self._deltas_topic:
                if not folded.get(tp.partition, False):
                    reasons.append(f"{_name(tp)} is being folded again")
            elif held.stopped is None and not held.ready:
                reasons.append(f"{_name(tp)} is being opened")
        return reasons

    def stopped(self) -> list[PartitionStats]:
        """Return the assigned partitions that stopped for good."""
        partitions = sorted(self._stats.partitions.items())
        return [held for _, held in partitions if held.stopped is not None]

    def hidden(self) -> frozenset[int]:
        """Return the partitions of the deltas whose windows are falling behind for good."""
        stopped = (held.tp for held in self.stopped())
        return frozenset(tp.partition for tp in stopped if tp.topic == self._deltas_topic)

    def _delays(self, now_ms: int) -> Iterator[int | None]:
        for tp, held in self._stats.partitions.items():
            if not held.ready:
                yield None
            elif held.high_watermark > held.position:
                since = max(self._caught_up.get(tp, 0), self._newest(held))
                yield max(0, now_ms - since) if since else None

    def _newest(self, held: PartitionStats) -> int:
        topic, partition = held.tp
        if topic != self._deltas_topic:
            return held.received_ms
        return self._board.watermark_ms(partition) if partition in self._board.partitions else 0


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic} {tp.partition}"
