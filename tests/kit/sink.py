"""What tests of the sink share: an installation's settings, records, a sink in process or apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from consumers.place import Place
from consumers.sinks.base import Item
from consumers.sinks.postgres import PostgresSink
from pipeline.core.event import MailEvent
from pipeline.core.timestamp import rfc3339
from pipeline.kit.clock import SystemClock
from pipeline.kit.settings import Settings
from tests.kit.clock import FakeClock
from tests.kit.event_log import EventLog, encode
from tests.kit.processes import Service, mailstream

NOW_MS = 1_790_000_000_000
EVENTS, PANES, NODES = "mail.events", "mail.panes", "mail.raw.node"
OUTCOMES = ("sent", "delivered", "deferred", "bounced")


REFUSED = "refused.example"
"""A domain that the tests' databases refuse, as an operator's constraint may."""
CONSTRAINT = f"ALTER TABLE email_events ADD CHECK (to_domain <> '{REFUSED}')"


def settings(dsn: str, **more: Any) -> Settings:
    """Return settings with the section of the sink."""
    return Settings.model_validate({"sinks": {"postgres": {"dsn": dsn, **more}}}, strict=False)


def made(dsn: str, now_ms: int | None = NOW_MS, **more: Any) -> PostgresSink:
    """Return a sink whose clock stands at *now_ms*; None: the machine's."""
    clock = SystemClock() if now_ms is None else FakeClock(now_ms)
    return PostgresSink(settings(dsn, **more), clock)


def event(number: int, time_ms: int = NOW_MS, **fields: Any) -> MailEvent:
    """Return the event called ``e<number>``, of one of a few users, nodes and outcomes."""
    given: dict[str, Any] = {
        "event_id": f"e{number}",
        "source": "zonemta",
        "event_type": OUTCOMES[number % len(OUTCOMES)],
        "timestamp": rfc3339(time_ms),
        "received": rfc3339(time_ms + 5),
        "direction": "outbound",
        "user": f"user{number % 7}@example.com",
        "mta_node": f"mta{number % 2}",
        "size_bytes": number,
        "delivery_time_ms": number / 4,
    }
    return MailEvent(**(given | fields))


def item(offset: int, value: bytes, topic: str = EVENTS, partition: int = 0, **more: Any) -> Item:
    """Return a record."""
    return Item(Place(topic, partition, offset), NOW_MS, b"key", value, **more)


def items(events: Iterable[MailEvent], first: int = 0, **more: Any) -> list[Item]:
    """Return the records of events, one after the other."""
    return [item(first + at, encode(one), **more) for at, one in enumerate(events)]


def observed(offset: int, what: str, values: dict[str, float], time_ms: int = NOW_MS) -> Item:
    """Return the record of an observation."""
    body = {"node": "mta1", "what": what, "at": rfc3339(time_ms), "values": values}
    headers = (("feed", b"observation"),)
    return item(offset, json.dumps(body).encode(), NODES, headers=headers)


async def stored(sink: PostgresSink, records: Sequence[Item]) -> None:
    """Store *records* of one topic."""
    topic = records[0].place.topic
    await sink.positions(topic, {one.place.partition for one in records})
    await sink.write(topic, records)


class SinkProcess(Service):
    """One ``mailstream sink postgres``."""

    def __init__(self, log: EventLog, dsn: str, folder: Path, **more: Any) -> None:
        folder.mkdir(exist_ok=True)
        config = folder / "mailstream.yaml"
        config.write_text(
            json.dumps(
                {
                    "data_dir": str(folder),
                    "kafka": {"bootstrap_servers": log.bootstrap},
                    "topics": {"prefix": log.settings.topics.prefix, "partitions": log.partitions},
                    "sinks": {"postgres": {"dsn": dsn, "listen": "127.0.0.1:0", **more}},
                }
            )
        )
        command = mailstream("sink", "postgres", "--config", config)
        super().__init__("sink-postgres", command, folder)

    def value(self, metric: str) -> float:
        """Return the sum of a metric over its series; 0 while nobody answers."""
        answer = self.get("/metrics")
        lines = (answer[1] if answer is not None else "").splitlines()
        names = (metric + "{", metric + " ")
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))
