"""Replays without Kafka: their pace, their lines, and files that are gone on with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.replay import Pace
from consumers.replay_targets import FileTarget, TopicTarget, line_of
from pipeline.core.errors import ConfigError, MailstreamError
from tests.kit.clock import FakeClock

TOPIC = "mail.events"


@dataclass(frozen=True)
class Raw:
    """A record as aiokafka reads it."""

    offset: int = 0
    value: bytes | None = b'{"a":1}'
    partition: int = 0
    topic: str = TOPIC
    timestamp: int = 1000
    key: bytes | None = b"k"
    headers: tuple[tuple[str, bytes], ...] = (("id", b"e1"),)


def test_records_come_as_far_apart_as_they_were_written_times_the_speed() -> None:
    clock = FakeClock()
    pace = Pace(10.0, clock)
    assert pace.wait_s(5_000) == 0
    assert pace.wait_s(6_000) == pytest.approx(0.1)
    asyncio.run(clock.advance(0.1))
    assert pace.wait_s(6_000) == pytest.approx(0)
    assert pace.wait_s(4_000) < 0


def test_a_line_holds_json_as_it_is() -> None:
    line = json.loads(line_of(Raw(offset=7)))
    assert line == {
        "topic": TOPIC,
        "partition": 0,
        "offset": 7,
        "time": 1000,
        "key": "k",
        "headers": {"id": "e1"},
        "value": {"a": 1},
    }


@given(
    st.binary() | st.none() | st.sampled_from([b'{"a":\n1}', b"1", b'"\xff"', b"[1,"]),
    st.binary() | st.none(),
    st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=3), st.binary()), max_size=2),
)
def test_any_record_is_one_line_from_which_its_value_can_be_had(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    text = line_of(Raw(value=value, key=key, headers=tuple(headers)))
    assert text.count(b"\n") == 1
    found: Any = json.loads(text)["value"]
    if isinstance(found, dict) and found.keys() == {"hex"}:
        assert bytes.fromhex(found["hex"]) == (value or b"")
    else:
        assert found == json.loads(value or b"")


def written(path: Path, *records: Raw) -> Mapping[int, int]:
    """Go on with a file; return where it stood."""

    async def write() -> Mapping[int, int]:
        target = FileTarget(path, TOPIC)
        try:
            positions = await target.open(4)
            await target.write(records, {})
        finally:
            await target.close()
        return positions

    return asyncio.run(write())


def test_a_file_knows_where_it_stands_and_loses_an_unfinished_line(tmp_path: Path) -> None:
    path = tmp_path / "replay"
    assert written(path, Raw(3), Raw(9, partition=2), Raw(4)) == {}
    whole = path.read_bytes()
    path.write_bytes(whole + line_of(Raw(5))[:-10])
    assert written(path, Raw(5)) == {0: 5, 2: 10}
    assert path.read_bytes() == whole + line_of(Raw(5))


def test_a_topic_is_no_target_of_itself_whoever_asks() -> None:
    target = TopicTarget({"bootstrap_servers": "127.0.0.1:1"}, TOPIC, TOPIC, "g", FakeClock())
    with pytest.raises(ConfigError, match="no target of itself"):
        asyncio.run(target.open(4))


@pytest.mark.parametrize("content", [b"hello\n", b"{}\n", line_of(Raw(topic="mail.raw.haraka"))])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(MailstreamError, match=r"notes: this is no replay of mail\.events"):
        written(path, Raw())
    assert path.read_bytes() == content
