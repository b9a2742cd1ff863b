"""Raw records and a phase 1 to feed them to, without Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from pipeline.core.batch import Output, StepResult, TopicPartition
from pipeline.core.delta import DeltaFrame, decode_frame
from pipeline.core.engine_stats import EngineStats
from pipeline.core.event import EVENT_TYPES, MailEvent
from pipeline.core.families import FAMILIES, KEY_SEPARATOR, Family
from pipeline.core.tally import Tally
from pipeline.core.topics import TopicNames
from pipeline.enrich.forms import forms
from pipeline.enrich.probes import NO_PROBES, ProbeAccounts
from pipeline.enrich.step import Enricher

NAMES = TopicNames("mail.")
ZONEMTA = TopicPartition("mail.raw.zonemta", 1)
HARAKA = TopicPartition("mail.raw.haraka", 1)
PARTITIONS = 3
HOUR = 3_600_000
RECEIVED = 1_767_268_800_000
"""2026-01-01T12:00:00Z."""

Row = tuple[str, tuple[str, ...], str, int]
"""Family, key, event type, start of the pane in ms."""


class Raw(NamedTuple):
    """A record of a raw topic, as Kafka's client gives it."""

    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    key: bytes | None = b"key"
    timestamp: int | None = None


class Phase1:
    """A phase 1 with its partitions open, its tally and its stats."""

    def __init__(
        self,
        *open_: TopicPartition,
        horizon_ms: int = 6 * HOUR,
        max_ids: int = 1_000_000,
        partitions: int = PARTITIONS,
        probes: ProbeAccounts = NO_PROBES,
        families: Sequence[Family] = FAMILIES,
    ) -> None:
        self.tally = Tally()
        self.stats = EngineStats(10_000)
        self.step = Enricher(
            NAMES,
            partitions,
            horizon_ms=horizon_ms,
            max_ids=max_ids,
            tally=self.tally,
            stats=self.stats,
            forms=forms(),
            probes=probes,
            families=families,
        )
        for tp in open_ or (ZONEMTA, HARAKA):
            self.step.open(tp)

    def batch(self, records: Sequence[Raw], tp: TopicPartition = ZONEMTA) -> StepResult:
        """Run one batch without its commit."""
        start = records[0].offset if records else 0
        end = records[-1].offset + 1 if records else 0
        return self.step.on_batch(tp, records, start, end, RECEIVED)

    def commit(self, records: Sequence[Raw], tp: TopicPartition = ZONEMTA) -> StepResult:
        """Run one batch and commit it."""
        result = self.batch(records, tp)
        result.on_commit()
        return result

    def event(self, event: Mapping[str, Any], **how: Any) -> dict[str, Any]:
        """Return what one posted event becomes."""
        source = how.get("source", "zonemta")
        tp = TopicPartition(f"mail.raw.{source}", 1)
        (made,) = events(self.batch([raw(event, **how)], tp))
        return made

    def count(self, name: str, *labels: str) -> int:
        """Return a counter of the tally."""
        return self.tally.counters[name].get(labels, 0)


def posted(**fields: Any) -> dict[str, Any]:
    """Return a posted event with what every event must have."""
    return {
        "timestamp": "2026-01-01T11:59:59.000Z",
        "event_type": "delivered",
        "message_id": "<m@x>",
        **fields,
    }


def mail(**fields: object) -> dict[str, object]:
    """Return a posted event that every family of customer mail counts."""
    return posted(
        **{
            "user": "alice",
            "from_domain": "x.org",
            "to_domain": "gmail.com",
            "sending_ip": "192.0.2.1",
            "client_ip": "198.51.100.1",
            "mta_node": "mta1",
            **fields,
        }
    )


def raw(
    event: Mapping[str, Any],
    offset: int = 0,
    *,
    event_id: str | None = None,
    source: str = "zonemta",
    origin: str = "default",
    received: int = RECEIVED,
) -> Raw:
    """Return the raw record of a posted event."""
    return Raw(
        offset,
        json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode(),
        headers(event_id or f"id-{offset}", source, origin, received),
    )


def headers(
    event_id: str = "id",
    source: str = "zonemta",
    origin: str = "default",
    received: int | str = RECEIVED,
) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that ingest writes."""
    return (
        ("id", event_id.encode()),
        ("source", source.encode()),
        ("feed", b"hook"),
        ("origin", origin.encode()),
        ("received", str(received).encode()),
    )


def written(result: StepResult, topic: str) -> list[Output]:
    """Return what a result has for the topic declared as *topic*."""
    return [output for output in result.outputs if output.topic == NAMES.of(topic)]


def values(result: StepResult, topic: str) -> list[bytes]:
    """Return the values of its records."""
    return [record.value for output in written(result, topic) for record in output.records]


def events(result: StepResult) -> list[dict[str, Any]]:
    """Return the events it writes, each checked to be a ``MailEvent`` and nothing else."""
    decoder = msgspec.json.Decoder(MailEvent)
    found = []
    for value in values(result, "events"):
        decoder.decode(value)
        fields = json.loads(value)
        assert fields.keys() <= set(MailEvent.__struct_fields__)
        found.append(fields)
    return found


def frames(result: StepResult) -> dict[int, DeltaFrame]:
    """Return its frames by target partition."""
    return {
        output.partition: decode_frame(record.value)
        for output in written(result, "deltas")
        for record in output.records
    }


def rows(found: Iterable[DeltaFrame]) -> dict[Row, dict[str, int]]:
    """Return the sums of all rows, ``last`` beside them; rows of one identity are added up."""
    added: dict[Row, dict[str, int]] = {}
    for frame in found:
        for family in frame.families:
            names = [tuple(key.split(KEY_SEPARATOR)) for key in family.keys]
            assert len(set(names)) == len(names)
            last = family.column_last()
            columns = {name: family.column_sum(name).tolist() for name in family.sums}
            inside = set()
            for place in range(len(family)):
                row = (
                    family.family,
                    names[family.column_key_index()[place]],
                    EVENT_TYPES[family.column_event_type()[place]],
                    int(family.column_pane()[place]) * 10_000,
                )
                assert row not in inside
                inside.add(row)
                sums = added.setdefault(row, {})
                for name, column in columns.items():
                    sums[name] = sums.get(name, 0) + column[place]
                if last is not None:
                    sums["last"] = max(sums.get("last", 0), int(last[place]))
    return added
