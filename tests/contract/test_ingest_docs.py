"""``docs/ingest.md`` names what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from pipeline.core.errors import Reason
from pipeline.core.event import DIRECTIONS, EVENT_TYPES
from pipeline.core.posted import ACCEPTED_NAMES, OWN_FIELDS
from producers.ingest_metrics import IngestMetrics, Refusal

TEXT = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text()
NAMED = set(re.findall(r"`([^`\s]+)`", TEXT))


def test_every_field_that_may_be_posted_is_documented() -> None:
    assert not ACCEPTED_NAMES - NAMED
    assert not set(OWN_FIELDS) - NAMED


def test_every_event_type_and_direction_is_documented() -> None:
    assert not {*EVENT_TYPES, *DIRECTIONS} - NAMED


def test_every_metric_of_the_service_is_documented() -> None:
    registry = CollectorRegistry()
    IngestMetrics(registry)
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in registry.collect()
        if family.name.startswith("mailstream_ingest")
    }
    assert not names - NAMED


def test_every_error_that_an_answer_may_have_is_documented() -> None:
    never = {Reason.MISSING_HEADER, Reason.BUG}
    assert not {*Reason, *Refusal} - never - NAMED
