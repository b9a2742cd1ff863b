"""A worker is frozen: shortly, and until the group has given its partitions away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.flow import flow
from tests.kit.own_broker import OwnBroker
from tests.kit.stand import stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]


def test_a_worker_that_wakes_up_after_its_partitions_were_given_away_writes_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=2) as events:
        pausing, zombie = st.worker(1), st.worker(2)
        st.wait_until_ready()
        events.let_pass(1.0)
        pausing.freeze()
        events.let_pass(4.0)
        pausing.thaw()
        events.let_pass(1.0)
        zombie.freeze()
        st.wait_until_owns_all(pausing)
        events.let_pass(1.0)
        zombie.thaw()
        events.let_pass(1.0)
        st.wait_until_ready()
        events.stop()
        assert zombie.running, zombie.said()
        st.assert_exactly_once()
