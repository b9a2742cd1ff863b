"""How far long reading is, where there is no terminal."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.structs import TopicPartition

from consumers.replay import Replayed
from consumers.replay_reading import Span
from mailstream.commands.progress import lines
from tests.kit.clock import FakeClock


def test_a_line_every_ten_seconds_says_how_long_it_will_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = FakeClock()
    show = lines("replaying", clock.monotonic)
    replayed = Replayed(spans=[Span(TopicPartition("t", 0), 100, 1100, gone=False)])
    for read in (0, 50, 100, 200, 250, 1200):
        replayed.read = read
        show(replayed)
        asyncio.run(clock.advance(5.0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "replaying: 100 of 1000, about 90 s left",
        "replaying: 250 of 1000, about 60 s left",
    ]
