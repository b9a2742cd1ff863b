"""Workers die and freeze in the middle of roll-ups; the broker, or their topic, goes away under one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fault.test_failed_commits import failed
from tests.fault.test_frozen_workers import assert_zombies_commit_nothing
from tests.fault.test_rollups import frames
from tests.kit import interrupted_worker
from tests.kit.flow import flow
from tests.kit.interrupted_worker import ROLL_UP
from tests.kit.kafka_admin import admin_of
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.stand import Stand, stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]

ROLLED_S = 120.0


def interrupted(kind: str, step: str, number: int = 1) -> Sequence[str]:
    """Return the program of a worker that is interrupted at a step of its n-th roll-up."""
    return [interrupted_worker.__name__, kind, ROLL_UP + step, str(number)]


def test_a_death_at_any_step_of_a_roll_up_loses_and_doubles_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=8) as events:
        for number, step in enumerate(interrupted_worker.STEPS, 1):
            st.worker(number, interrupted("kill", step))
        wait_until(lambda: not st.running(), "each dies at its step", within_s=2 * ROLLED_S)
        heir = st.worker(len(interrupted_worker.STEPS) + 1)
        st.wait_until_owns_all(heir)
        events.let_pass(1.0)
        events.stop()
        st.assert_exactly_once()


def test_a_roll_up_whose_outcome_is_unknown_loses_and_doubles_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=12) as events:
        workers = [
            st.worker(number, interrupted("fail", step))
            for number, step in enumerate(interrupted_worker.STEPS, 1)
        ]
        wait_until(
            lambda: all(map(failed, workers)),
            "each fails at its step",
            within_s=ROLLED_S,
            every_s=0.5,
        )
        events.let_pass(1.0)
        st.wait_until_ready()
        events.stop()
        assert len(st.running()) == len(workers)
        st.assert_exactly_once()


def test_zombies_that_wake_up_in_the_middle_of_a_roll_up_commit_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=9) as events:
        heir = st.worker(1)
        zombies = [
            st.worker(2, interrupted("freeze", "written")),
            st.worker(3, interrupted("freeze", "offsets")),
        ]
        wait_until(lambda: all(one.frozen for one in zombies), "both are frozen", within_s=ROLLED_S)
        assert_zombies_commit_nothing(st, events, heir, zombies)


def test_a_broker_that_is_killed_in_the_middle_of_roll_ups_loses_and_doubles_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=10) as events:
        workers = [
            st.worker(1, interrupted("freeze", "offsets")),
            st.worker(2, interrupted("freeze", "committed")),
        ]
        wait_until(lambda: any(one.frozen for one in workers), "one is frozen", within_s=ROLLED_S)
        kafka.kill()
        kafka.start()

        were_frozen = set()

        def awake_and_ready() -> bool:
            for worker in workers:  # each freezes once, at its first roll-up
                if worker.frozen:
                    were_frozen.add(worker.name)
                    worker.thaw()
            return len(were_frozen) == len(workers) and all(one.ready() for one in workers)

        wait_until(awake_and_ready, "both are ready", within_s=2 * ROLLED_S, every_s=1.0)
        events.let_pass(1.0)
        events.stop()
        assert all(one.running for one in workers), [one.said() for one in workers]
        st.assert_exactly_once()


def test_without_their_topic_windows_are_right_and_workers_get_ready(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=11) as events:
        st.worker(1)
        wait_until(
            lambda: bool(frames(st)), "something is rolled up", within_s=ROLLED_S, every_s=0.2
        )
        asyncio.run(delete_rollups(st))
        events.let_pass(20.0)  # another roll-up is due, and fails
        st.wait_until_fresh()
        st.worker(1).kill()
        st.worker(1)
        st.wait_until_ready()
        events.stop()
        st.assert_exactly_once()


async def delete_rollups(st: Stand) -> None:
    async with admin_of(st.bootstrap) as admin:
        await admin.delete_topics([st.topic("rollups")])
