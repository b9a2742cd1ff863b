"""A worker dies at each step of a transaction: what was not committed leaves no trace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit import interrupted_worker
from tests.kit.flow import flow
from tests.kit.kafka_read import read_topics
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.stand import Stand, stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]


def test_a_death_at_any_step_of_a_commit_loses_and_doubles_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=7) as events:
        for number, step in enumerate(interrupted_worker.STEPS, 1):
            st.worker(number, [interrupted_worker.__name__, "kill", step, "5"])
        wait_until(lambda: not st.running(), "each dies at its step", within_s=90)
        st.worker(len(interrupted_worker.STEPS) + 1)
        events.let_pass(1.0)
        events.stop()
        recount = st.assert_exactly_once()
        assert written(st, "read_committed") == len(recount.facts)
        assert written(st, "read_uncommitted") > len(recount.facts)


def written(st: Stand, isolation: str) -> int:
    """Return how many records of ``mail.events`` a reader with this isolation sees."""
    topics = [st.topic("events")]
    return len(asyncio.run(read_topics(st.bootstrap, topics, st.partitions, isolation=isolation)))
