"""Samples of bad GELF messages: what is shown of them, and how many there are."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from pipeline.core.batch import Output, OutRecord, header
from pipeline.core.errors import Backpressure, Reason, RecordError
from pipeline.kit.clock import SystemClock
from pipeline.kit.settings import Settings
from producers.appender import Appender
from producers.gelf.kept import Keeper
from producers.gelf.records import RecordMaker
from producers.gelf.samples import MAX_TEXT, MINUTE_MS, Samples, sample_of
from producers.gelf.setup import samples_of
from producers.haul import Haul
from producers.known_names import KnownNames
from producers.privacy import Privacy

NOW = 1_767_268_800_000
PRIVACY = Privacy(b"key", keep_recipients=True)
WRONG = RecordError(Reason.MALFORMED, "not JSON")
MISSING = RecordError(Reason.MISSING_FIELD, "short_message is required")


class Kafka(Appender):
    """An appender whose far side is there, or away."""

    def __init__(self, *, away: bool = False) -> None:
        super().__init__({}, ["mail.dead"], 1, SystemClock(), buffer_bytes=1 << 20)
        self.away = away
        self.written: list[OutRecord] = []

    async def append(self, outputs: Sequence[Output]) -> None:
        if self.away:
            raise Backpressure("away")
        for output in outputs:
            assert output.topic == "mail.dead"
            self.written += output.records


def kept(samples: Samples, registry: CollectorRegistry) -> dict[str, float]:
    """Let *samples* write what waits; return what is counted of it."""

    async def write() -> None:
        await samples.start()
        task = asyncio.create_task(samples.run())
        for _ in range(500):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await samples.stop()

    asyncio.run(write())
    name = "mailstream_gelf_samples_total"
    return {
        result: registry.get_sample_value(name, {"result": result}) or 0.0
        for result in ("written", "lost")
    }


def samples(kafka: Kafka, registry: CollectorRegistry, per_minute: int = 2) -> Samples:
    return Samples(
        PRIVACY, kafka, Settings().topics, registry, SystemClock(), per_minute=per_minute
    )


def text_of(message: bytes) -> str | None:
    sample = sample_of(message, WRONG, "192.0.2.9", PRIVACY)
    return None if sample is None else sample.value.decode()


def test_a_sample_has_the_reason_and_no_address() -> None:
    kafka, registry = Kafka(), CollectorRegistry()
    made = samples(kafka, registry)
    maker = RecordMaker(Keeper(PRIVACY, KnownNames()), max_bytes=1 << 20, bad=made.take)
    fields = {"_to": "bob@example.net", "_log": 'for \\u0040 "eve x"@example.org', "host": "mx1"}
    maker.take(zlib.compress(json.dumps(fields).encode()), "192.0.2.9", "1", NOW, Haul())
    assert kept(made, registry) == {"written": 1, "lost": 0}
    (sample,) = kafka.written
    assert header(sample.headers, "error") == b"missing_field: short_message is required"
    assert header(sample.headers, "source") == b"gelf"
    assert header(sample.headers, "origin") == b"192.0.2.9"
    text = sample.value.decode()
    assert json.loads(text)["host"] == "mx1"
    assert "@example.net" in text
    assert "bob" not in text
    assert "eve" not in text


@pytest.mark.parametrize(
    "message",
    [b"", b"\xff\xfe\x00", zlib.compress(b"{}")[:-3], b"x\x9crubbish", b"\x1f\x8b rubbish"],
)
def test_what_is_no_text_or_could_not_be_inflated_is_not_shown(message: bytes) -> None:
    assert text_of(message) is None


def test_what_is_no_gelf_at_all_is_shown_if_it_is_text() -> None:
    assert text_of(b"<34>Oct 11 22:14:15 mx1 su: no") == "<34>Oct 11 22:14:15 mx1 su: no"


def test_a_long_message_is_cut_and_not_within_an_address() -> None:
    for before in range(MAX_TEXT - 40, MAX_TEXT + 1):
        text = text_of(b"{" + b"x" * (before - 2) + b" somebody-secret@example.net" + b" y" * 99)
        assert text is not None
        assert "some" not in text
        assert len(text) < MAX_TEXT + 40


def test_samples_are_bounded_for_each_reason_and_minute() -> None:
    kafka, registry = Kafka(), CollectorRegistry()
    made = samples(kafka, registry)
    for number in range(9):
        for error in (WRONG, MISSING):
            made.take(b"%d" % number, error, "192.0.2.9", NOW)
    made.take(b"later", WRONG, "192.0.2.9", NOW + MINUTE_MS)
    assert kept(made, registry) == {"written": 5, "lost": 0}
    assert [one.value for one in kafka.written] == [b"0", b"0", b"1", b"1", b"later"]


def test_while_kafka_is_away_a_bounded_number_waits() -> None:
    kafka, registry = Kafka(away=True), CollectorRegistry()
    made = samples(kafka, registry, per_minute=2000)
    for number in range(1500):
        made.take(b"text %d" % number, WRONG, "192.0.2.9", NOW)
    assert kept(made, registry) == {"written": 0, "lost": 500}
    kafka.away = False
    assert kept(made, registry)["written"] > 100


@pytest.mark.parametrize(
    "given", [{"gelf": {"samples_per_minute": 0}}, {"privacy": {"pseudonymise": ["user"]}}]
)
def test_there_are_none_where_none_are_wanted_or_names_are_not_to_be_seen(
    given: dict[str, object],
) -> None:
    kafka, registry = Kafka(), CollectorRegistry()
    made = samples_of(Settings.model_validate(given), PRIVACY, kafka, registry, SystemClock())
    made.take(b"rubbish", WRONG, "192.0.2.9", NOW)
    assert kept(made, registry) == {"written": 0, "lost": 0}
