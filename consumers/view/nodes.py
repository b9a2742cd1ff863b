"""The nodes that were heard of: heartbeats of senders, and the newest observations.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from consumers.view.recent import Lru
from pipeline.core.errors import RecordError
from pipeline.core.observation import HEARTBEAT, Heartbeat, Observation, heartbeat, observation
from pipeline.core.timestamp import epoch_ms

ALIVE_MS: Final = 60_000
"""A sender that was heard of within this time is alive: it beats every 15 s."""
MAX_NODES: Final = 5_000
MAX_KINDS: Final = 32
"""Kinds of observations, and senders, remembered per node."""


@dataclass(slots=True)
class Beat:
    """What a sender last said of itself."""

    told: Heartbeat
    source: str
    origin: str
    heard_ms: int


@dataclass(slots=True)
class Node:
    """One node."""

    heard_ms: int = 0
    """When anything of it was last received."""
    beats: Lru[tuple[str, str], Beat] = field(default_factory=lambda: Lru(MAX_KINDS))
    """By role and origin."""
    observed: Lru[str, Observation] = field(default_factory=lambda: Lru(MAX_KINDS))
    """By what was looked at."""


class Nodes:
    """Everything that ``raw.node`` told, by node."""

    def __init__(self) -> None:
        """Know no node yet."""
        self._nodes: Lru[str, Node] = Lru(MAX_NODES)
        self.unusable = 0
        """Records that could not be read."""

    def take(self, value: bytes, headers: dict[str, bytes]) -> None:
        """Take one record; one that is unusable is counted."""
        try:
            told = orjson.loads(value)
            heard_ms = int(headers.get("received", b"0"))
            if headers.get("feed") == HEARTBEAT:
                self._beat(heartbeat(told), headers, heard_ms)
            else:
                self._observe(observation(told), heard_ms)
        except (ValueError, RecordError):
            self.unusable += 1

    def shown(self, now_ms: int) -> list[dict[str, Any]]:
        """Return every node as JSON has it, by name."""
        return [self._shown(name, node, now_ms) for name, node in sorted(self._nodes.items())]

    def _node(self, name: str, heard_ms: int) -> Node:
        node = self._nodes.get(name) or Node()
        node.heard_ms = max(node.heard_ms, heard_ms)
        self._nodes.put(name, node)
        return node

    def _beat(self, told: Heartbeat, headers: dict[str, bytes], heard_ms: int) -> None:
        source, origin = (headers.get(name, b"").decode() for name in ("source", "origin"))
        node = self._node(told.node, heard_ms)
        held = node.beats.get((told.role, origin))
        if held is None or held.heard_ms <= heard_ms:
            node.beats.put((told.role, origin), Beat(told, source, origin, heard_ms))

    def _observe(self, found: Observation, heard_ms: int) -> None:
        node = self._node(found.node, heard_ms)
        held = node.observed.get(found.what)
        if held is None or epoch_ms(held.at) <= epoch_ms(found.at):
            node.observed.put(found.what, found)

    @staticmethod
    def _shown(name: str, node: Node, now_ms: int) -> dict[str, Any]:
        return {
            "node": name,
            "heard": node.heard_ms / 1000,
            "alive": now_ms - node.heard_ms <= ALIVE_MS,
            "senders": [
                {
                    "role": beat.told.role,
                    "version": beat.told.version,
                    "boot_id": beat.told.boot_id,
                    "source": beat.source,
                    "origin": beat.origin,
                    "last_heartbeat": beat.heard_ms / 1000,
                    "alive": now_ms - beat.heard_ms <= ALIVE_MS,
                    "last_seq": beat.told.last_seq,
                    "buffered": beat.told.buffered,
                    "dropped_total": beat.told.dropped_total,
                }
                for _, beat in sorted(node.beats.items())
            ],
            "observations": {
                what: {"at": epoch_ms(found.at) / 1000, "values": found.values}
                for what, found in sorted(node.observed.items())
            },
        }
