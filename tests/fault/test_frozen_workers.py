"""Workers are frozen: shortly, and until the group has given their partitions away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kit import interrupted_worker
from tests.kit.flow import Flow, flow
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import Worker, wait_until
from tests.kit.stand import Stand, stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]


def assert_zombies_commit_nothing(
    st: Stand, events: Flow, heir: Worker, zombies: Sequence[Worker]
) -> None:
    """Let *heir* take over from frozen *zombies*, wake them, and expect every event once."""
    st.wait_until_owns_all(heir)
    events.let_pass(1.0)
    for zombie in zombies:
        zombie.thaw()
    events.let_pass(1.0)
    st.wait_until_ready()
    events.stop()
    assert all(one.running for one in zombies), [one.said() for one in zombies]
    st.assert_exactly_once()


def test_zombies_that_wake_up_in_the_middle_of_a_transaction_commit_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=2) as events:
        heir = st.worker(1)
        zombies = [
            st.worker(2, [interrupted_worker.__name__, "freeze", "written", "20"]),
            st.worker(3, [interrupted_worker.__name__, "freeze", "offsets", "20"]),
        ]
        wait_until(lambda: all(one.frozen for one in zombies), "both are frozen", within_s=60)
        assert_zombies_commit_nothing(st, events, heir, zombies)


def test_a_pause_within_the_session_timeout_does_no_harm(kafka: OwnBroker, tmp_path: Path) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=3) as events:
        pausing = st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        pausing.freeze()
        events.let_pass(5.0)
        pausing.thaw()
        events.let_pass(1.0)
        events.stop()
        st.assert_exactly_once()
