"""docs/sinks.md: its questions are answered, and it names every table, view and metric."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumers.postgres.tables import TABLES
from consumers.sinks.runner import SinkMetrics
from tests.kit.postgres import Database
from tests.kit.sink import event, items, made, stored
from tests.kit.stand import now_ms

pytestmark = pytest.mark.integration

TEXT = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text()
QUESTIONS = re.findall(r"^```sql\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
VIEWS = "SELECT viewname FROM pg_views WHERE schemaname = current_schema()"


def test_every_question_is_answered_and_every_view_named(database: Database) -> None:
    async def fill() -> None:
        sink = made(database.dsn, None)
        await sink.open()
        events = [event(number, now_ms() - 60_000, provider="google") for number in range(40)]
        events.append(event(40, now_ms(), attempt=1 << 40))
        await stored(sink, items(events))
        await sink.close()

    asyncio.run(fill())
    assert len(QUESTIONS) >= 6
    answers = [database.rows(question) for question in QUESTIONS]
    assert answers[0][0][1:] == ("google", 50)
    assert answers[3]
    assert answers[-1]
    for (view,) in database.rows(VIEWS):
        shown = re.sub(r"metrics_\w+_hourly", "metrics_*_hourly", view)
        assert shown.startswith("mailstream_") or f"`{shown}`" in TEXT, view


def test_every_table_and_metric_is_named() -> None:
    registry = CollectorRegistry()
    SinkMetrics(registry, "sink-postgres")
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
        if family.name.startswith("mailstream_sink")
    }
    assert len(names) == 3
    for name in {*names, *(table.name for table in TABLES)}:
        assert re.search(rf"`{name}(\{{\w+\}})?`", TEXT), name
