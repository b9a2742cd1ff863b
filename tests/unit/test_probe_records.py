"""Records of outcomes: what they say, what they never say, and that the pipeline reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pipeline.enrich.parse.probe import FIELDS, parse
from pipeline.kit.telemetry import ComponentMetrics
from producers.privacy import Privacy
from producers.sources.probe.attempt import ErrorClass, Failure, Found, Phase, Sent
from producers.sources.probe.config import ProbeConfig
from producers.sources.probe.metrics import ProbeMetrics
from producers.sources.probe.outcome import Kind, Outcome, RecordMaker, event_id, scrubber, step_of
from producers.sources.probe.service import Teller
from tests.kit.probe_rounds import SECRET, tree, written

AT_MS = 1_700_000_000_123
MAKER = RecordMaker("here", Privacy(b"key"))


@pytest.fixture
def config(tmp_path: Path) -> ProbeConfig:
    return written(tmp_path / "config.yaml", tree(1))


def failed(config: ProbeConfig, text: str) -> Outcome:
    failure = Failure(Phase.RCPT, ErrorClass.REJECTED, text, 550, "5.1.1")
    sent = Sent(accepted=False, code=550, enhanced_status="5.1.1", reply=text, tries=2)
    return Outcome(
        config.routes[0],
        "token",
        Kind.SEND_FAILED,
        AT_MS,
        failure=failure,
        phases_ms={Phase.DNS: 1.23456},
        sent=sent,
    )


def value(outcome: Outcome, *secrets: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(MAKER.record(outcome, scrubber(secrets)).value)
    return told


def test_a_failed_round_says_where_and_why(config: ProbeConfig) -> None:
    assert value(failed(config, "550 5.1.1 no")) == {
        "timestamp": "2023-11-14T22:13:20.123Z",
        "route": "r0",
        "from": "a0",
        "to": "a0",
        "token": "token",
        "outcome": "send_failed",
        "failed_phase": "rcpt",
        "error_class": "rejected",
        "error": "550 5.1.1 no",
        "phases_ms": {"dns": 1.235},
        "response_code": 550,
        "enhanced_status": "5.1.1",
        "response_message": "550 5.1.1 no",
        "mx_host": "smtp.example.test",
        "tries": 2,
        "from_domain": "example.test",
        "to_domain": "example.test",
    }


@pytest.mark.parametrize("kind", Kind)
def test_the_pipeline_reads_every_outcome(config: ProbeConfig, kind: Kind) -> None:
    found = Found("token", "INBOX", junk=False, copies=1, first_seen_ms=AT_MS)
    outcome = Outcome(config.routes[0], "token", kind, AT_MS, found=found, roundtrip_ms=1234.5)
    record = MAKER.record(outcome, scrubber(()))
    event = parse(record.value, None)  # type: ignore[arg-type]  # it asks for nothing
    assert getattr(event, "outcome", None) == kind.value
    assert getattr(event, "delivery_time_ms", None) == 1234.5
    known = {*FIELDS, "from", "to", "token"}
    assert set(json.loads(record.value)) <= known
    headers = {name: text.decode() for name, text in record.headers}
    assert headers["id"] == event_id("here", "token", kind)
    assert (headers["source"], headers["feed"], headers["origin"]) == ("probe", "probe", "here")
    assert record.key == b"r0"


def test_ids_differ_by_origin_token_and_outcome_only() -> None:
    ids = {
        event_id(origin, token, kind)
        for origin in ("a", "b")
        for token in ("t", "u")
        for kind in Kind
    }
    assert len(ids) == 4 * len(Kind)
    assert event_id("a", "t", Kind.LOST) in ids


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_text_holds_a_secret_or_an_address(before: str, after: str) -> None:
    text = f"{before}{SECRET}{after} <jane.roe@example.test>"
    told = MAKER._privacy.reply(scrubber((SECRET,))(text))
    assert SECRET not in told
    assert "jane.roe@" not in told


def test_secrets_of_a_round_stay_out_after_the_file_has_others(config: ProbeConfig) -> None:
    privacy, registry = Privacy(b"key"), CollectorRegistry()
    metrics = ProbeMetrics(registry, "mail_e2e_exporter_")
    metrics.configure(config)
    component = ComponentMetrics(registry, "probe")
    fresh = ProbeConfig(config.path, 0, 0, config.options, config.routes)
    teller = Teller(lambda: fresh, privacy, metrics, MAKER, component, None)
    teller.tell(failed(config, f"535 bad password {SECRET} of jane.roe@example.test"))
    (error,) = metrics.errors()
    assert "bad password ***" in error["error"]
    assert "jane.roe" not in error["error"]


def test_failures_have_the_exporter_s_steps() -> None:
    def step(phase: Phase, kind: ErrorClass = ErrorClass.TIMEOUT) -> str:
        return step_of(Failure(phase, kind, "")).value

    sending = (Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.AUTH, Phase.MAIL, Phase.RCPT, Phase.DATA)
    for phase in Phase:
        assert step(phase) == ("send" if phase in sending else "receive")
        assert step(phase, ErrorClass.CONFIG) == "config"
