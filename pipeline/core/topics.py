"""Every topic, declared once: what it holds, how it is keyed and how long it is kept.

Names here are without the configured prefix (``topics.prefix``, default ``mail.``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.core.pane import DAY_MS

MAX_MESSAGE_BYTES: Final = 8 << 20
"""``max.message.bytes`` of every topic: a frame or run of one batch must fit."""

RAW_PREFIX: Final = "raw."


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic's contract."""

    name: str
    """Without the prefix; also its key in ``topics.retention``, where all raw topics share ``raw``."""
    holds: str
    key: str
    retention_ms: int | None
    """None: the dedupe horizon plus one hour, or for ever where the topic is compacted."""
    compacted: bool = False
    """Whether the last record of each key is kept, however old."""

    @property
    def retention_key(self) -> str:
        """Return the name under which ``topics.retention`` sets this topic's retention."""
        return "raw" if self.name.startswith(RAW_PREFIX) else self.name


_RAW_KEY: Final = "the message's id at its source (queue id, else message id), else the event id"

TOPICS: Final = (
    Topic("raw.zonemta", "what ZoneMTA reported, its own JSON", _RAW_KEY, 7 * DAY_MS),
    Topic("raw.haraka", "what Haraka reported, its own JSON", _RAW_KEY, 7 * DAY_MS),
    Topic("raw.cpanel", "rows of emailtrack_search, WHM's own JSON", _RAW_KEY, 7 * DAY_MS),
    Topic("raw.gelf", "GELF messages about mail and logins", _RAW_KEY, 7 * DAY_MS),
    Topic("raw.probe", "outcomes of roundtrip probes", "the route", 7 * DAY_MS),
    Topic("raw.node", "observations of nodes and heartbeats", "the node", 7 * DAY_MS),
    Topic("events", "enriched MailEvents, JSON", "as the raw record", 30 * DAY_MS),
    Topic(
        "deltas",
        "frames of combined deltas (internal)",
        "none; partition by family key",
        2 * DAY_MS,
    ),
    Topic(
        "rollups",
        "frames of closed panes of 1 and 5 minutes (internal)",
        "none; partition of the deltas",
        2 * DAY_MS,
    ),
    Topic(
        "panes",
        "closed panes of 5 minutes for consumers, JSON",
        "JSON of family, key and event type",
        7 * DAY_MS,
    ),
    Topic(
        "alerts",
        "anomalies: one record when an episode begins, one when it ends, JSON",
        "JSON [kind, key, since]; partition of the deltas",
        30 * DAY_MS,
    ),
    Topic("seen", "seen event ids per batch (internal)", "none; partition of the source", None),
    Topic(
        "dead", "records that could not be used, with the reason", "as the raw record", 7 * DAY_MS
    ),
    Topic(
        "checkpoints",
        "where a poller stands in its source",
        "poller and server",
        None,
        compacted=True,
    ),
)

TOPIC: Final = {topic.name: topic for topic in TOPICS}

RAW_TOPICS: Final = tuple(
    topic.name for topic in TOPICS if topic.name.startswith(RAW_PREFIX) and topic.name != "raw.node"
)
"""The topics that phase 1 reads: all raw ones but those about machines."""

OUTPUT_TOPICS: Final = ("events", "deltas", "seen", "dead")
"""The topics that phase 1 writes."""


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Full topic names, group and ids under one prefix."""

    prefix: str

    def of(self, name: str) -> str:
        """Return the full name of the topic declared as *name*.

        Raises:
            KeyError: No such topic is declared.
        """
        return self.prefix + TOPIC[name].name

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the full names of the topics that phase 1 writes."""
        return tuple(map(self.of, OUTPUT_TOPICS))

    @property
    def app_id(self) -> str:
        """Return the consumer group and Faust app id: the prefix without its dot + ``-pipeline``."""
        return f"{self.prefix.rstrip('.')}-pipeline"

    def transactional_id(self, topic: str, partition: int) -> str:
        """Return the stable id that fences zombies of one source partition."""
        return f"{self.app_id}-{topic}-{partition}"
