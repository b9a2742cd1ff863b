"""Log lines: readable or JSON, with their context, without secrets, and not too many."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from pipeline.kit import log as kit_log


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in kit_log._QUIETER}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.contextvars.clear_contextvars()


Capture = pytest.CaptureFixture[str]


def lines(capsys: Capture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_elsewhere_than_on_a_terminal_a_line_is_one_json_object(capsys: Capture) -> None:
    kit_log.setup("ingest")
    with kit_log.bound(partition=3):
        logging.getLogger("a.b").info("opened", extra={"offset": 7})
    logging.getLogger("a.b").info("closed")
    first, second = lines(capsys)
    assert list(first)[:3] == ["time", "level", "message"]
    assert first["message"] == "opened"
    assert first["level"] == "info"
    assert (first["component"], first["partition"], first["offset"]) == ("ingest", 3, 7)
    assert first["logger"] == "a.b"
    assert first["time"].endswith("Z")
    assert "partition" not in second


def test_setting_up_again_replaces(capsys: Capture) -> None:
    kit_log.setup("one")
    kit_log.setup("two")
    logging.getLogger("x").info("once")
    assert [line["component"] for line in lines(capsys)] == ["two"]


def test_what_aiokafka_calls_an_error_is_a_warning_because_it_tries_again(capsys: Capture) -> None:
    kit_log.setup("worker-1")
    logging.getLogger("aiokafka.cluster").error("Topic is not available")
    logging.getLogger("pipeline.x").error("a partition stopped")
    assert [line["level"] for line in lines(capsys)] == ["warning", "error"]


def test_for_people_a_line_is_text(capsys: Capture) -> None:
    kit_log.setup("worker-1", json=False)
    logging.getLogger("x").warning("trying again", extra={"wait_s": 1.5})
    text = capsys.readouterr().err
    assert "trying again" in text
    assert "wait_s=1.5" in text
    assert "component=worker-1" in text
    assert "\x1b" not in text


def test_an_exception_stays_on_one_line(capsys: Capture) -> None:
    kit_log.setup("x")
    try:
        int("boom")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: invalid literal" in line["exception"]


def test_secrets_and_odd_values_are_rendered_safely(capsys: Capture) -> None:
    for as_json in (True, False):
        kit_log.setup("x", json=as_json)
        logging.getLogger("x").info(
            "odd", extra={"key": SecretStr("hunter2"), "s": {1}, "big": 1 << 80, "bad": "\ud800"}
        )
    text = capsys.readouterr().err
    assert "hunter2" not in text
    assert text.count("odd") == 2


def test_libraries_speak_up_only_when_something_is_wrong(capsys: Capture) -> None:
    kit_log.setup("x")
    logging.getLogger("aiokafka.client").info("chatter")
    logging.getLogger("aiokafka.consumer.group_coordinator").warning("rebalancing")
    logging.getLogger("faust.app").warning("trouble")
    assert [line["message"] for line in lines(capsys)] == ["trouble"]


def record(at: float, message: str = "down", level: int = logging.WARNING, **fields: str) -> logging.LogRecord:  # fmt: skip
    made = logging.LogRecord("a", level, "", 0, message, (), None)
    made.created = at
    made.__dict__.update(fields)
    return made


def test_a_kind_of_warning_shows_once_per_ten_seconds_and_says_how_many_were_held_back() -> None:
    limit = kit_log.RateLimit()
    shown = [limit.filter(record(100 + second)) for second in range(10)]
    assert shown == [True] + [False] * 9
    later = record(110)
    assert limit.filter(later)
    assert later.__dict__["held_back"] == 9
    last = record(120)
    assert limit.filter(last)
    assert "held_back" not in last.__dict__


def test_reasons_messages_and_components_are_limited_apart_and_information_never() -> None:
    limit = kit_log.RateLimit()
    assert limit.filter(record(1))
    assert limit.filter(record(1, reason="full"))
    assert limit.filter(record(1, component="other"))
    assert limit.filter(record(1, message="up"))
    assert not limit.filter(record(1))
    for _ in range(3):
        assert limit.filter(record(1, level=logging.INFO))


def test_a_clock_that_was_set_back_does_not_silence() -> None:
    limit = kit_log.RateLimit()
    assert limit.filter(record(1000))
    assert limit.filter(record(10))


def test_many_kinds_do_not_grow_without_end() -> None:
    limit = kit_log.RateLimit()
    for number in range(10_000):
        assert limit.filter(record(1, message=str(number)))
    assert len(limit._seen) <= kit_log._MAX_KINDS
