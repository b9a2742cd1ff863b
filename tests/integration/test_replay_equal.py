"""Replaying raw records through the same code gives the same events, byte for byte, and equal sums."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.own_broker import own_broker
from tests.kit.replay import assert_replay_is_equal, write_plain
from tests.kit.stand import stand

MILLION = 1_000_000


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_million_events_replayed_are_equal(broker: str, tmp_path: Path) -> None:
    assert_equal(broker, tmp_path, MILLION, within_s=120.0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_million_events_replayed_are_equal(tmp_path: Path) -> None:
    with own_broker("1g") as broker:
        assert_equal(broker.bootstrap, tmp_path, 10 * MILLION, within_s=1500.0)


def assert_equal(bootstrap: str, folder: Path, count: int, *, within_s: float) -> None:
    with stand(bootstrap, folder / "live") as live, stand(bootstrap, folder / "beside") as beside:
        asyncio.run(write_plain(live, count))
        assert_replay_is_equal(live, beside, count + count // 100, within_s)
