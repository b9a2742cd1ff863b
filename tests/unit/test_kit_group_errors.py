"""A coordinator that cannot answer has not forgotten what was committed."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata

from pipeline.kit.clients import heed_group_errors

TP = TopicPartition("raw", 3)
LOADING, NOT_COORDINATOR, NOT_ALLOWED = 14, 16, 30


class Coordinator(GroupCoordinator):  # type: ignore[misc]  # aiokafka is untyped here
    """aiokafka's own, with the broker's answers given beforehand."""

    def __init__(self, *answers: Any) -> None:
        self.group_id = "g"
        self.deaths = 0
        self._retry_backoff_ms = 1
        self._answers = deque(answers)

    async def ensure_coordinator_known(self) -> None:
        """It is."""

    def coordinator_dead(self) -> None:
        self.deaths += 1

    async def _send_req(self, request: Any) -> Any:
        return self._answers.popleft()


def failed(code: int) -> Any:
    return OffsetFetchResponse_v3(0, [], code)


def answered(offset: int) -> Any:
    return OffsetFetchResponse_v3(0, [("raw", [(3, offset, "mark", 0)])], 0)


def committed(coordinator: Coordinator) -> Any:
    heed_group_errors(coordinator)
    return asyncio.run(coordinator.fetch_committed_offsets([TP]))


def test_a_coordinator_that_is_loading_is_asked_again() -> None:
    coordinator = Coordinator(failed(LOADING), failed(LOADING), answered(17))
    assert committed(coordinator) == {TP: OffsetAndMetadata(17, "mark")}


def test_another_coordinator_is_looked_for() -> None:
    coordinator = Coordinator(failed(NOT_COORDINATOR), answered(17))
    assert committed(coordinator) == {TP: OffsetAndMetadata(17, "mark")}
    assert coordinator.deaths == 1


def test_a_refusal_is_told() -> None:
    with pytest.raises(GroupAuthorizationFailedError):
        committed(Coordinator(failed(NOT_ALLOWED)))


def test_nothing_committed_is_an_answer() -> None:
    assert committed(Coordinator(answered(-1))) == {}
