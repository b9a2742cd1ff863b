"""What every component counts about itself."""

from __future__ import annotations

from enum import StrEnum

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pipeline.core.errors import Reason
from pipeline.kit.telemetry import ComponentMetrics, Stage, scrape


class Why(StrEnum):
    FULL = "full"


def test_a_component_counts_under_the_shared_names() -> None:
    registry = CollectorRegistry()
    metrics = ComponentMetrics(registry, "ingest")
    metrics.received(3)
    metrics.sent(2)
    metrics.discarded(Reason.MALFORMED)
    metrics.failed(Why.FULL, Stage.SENDING)
    metrics.succeeded(1_700_000_000_500)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(
            f"mailstream_component_{name}", {"component": "ingest", **labels}
        )

    assert value("received_events_total") == 3
    assert value("sent_events_total") == 2
    assert value("discarded_events_total", reason="malformed") == 1
    assert value("discarded_events_total", reason="too_large") == 0
    assert value("errors_total", reason="full", stage="sending") == 1
    assert value("last_success_seconds") == 1_700_000_000.5


def test_nothing_goes_to_the_global_registry() -> None:
    registry = CollectorRegistry()
    ComponentMetrics(registry, "a", reasons=Why)
    assert b"mailstream_component" not in generate_latest()
    with pytest.raises(ValueError, match="Duplicated"):
        ComponentMetrics(registry, "b")


def test_a_page_is_in_the_format_that_is_asked_for_without_times_of_creation() -> None:
    registry = CollectorRegistry()
    ComponentMetrics(registry, "ingest").received(3)
    plain, plain_type = scrape(registry)
    assert plain_type.startswith("text/plain")
    line = b'mailstream_component_received_events_total{component="ingest"} 3.0\n'
    assert line in plain
    text, text_type = scrape(registry, "application/openmetrics-text;version=1.0.0")
    assert text_type.startswith("application/openmetrics-text")
    assert line in text
    assert text.endswith(b"# EOF\n")
    assert b"_created" not in plain + text
