"""Workers join and leave faster than the group settles; most partitions stay where they are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.kit.flow import flow
from tests.kit.own_broker import OwnBroker
from tests.kit.stand import stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]

ROUNDS = 8
SEED = 4


def test_workers_that_join_and_leave_in_order_lose_and_double_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    rnd = random.Random(SEED)
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=SEED) as events:
        st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        for _ in range(ROUNDS):
            guest = st.worker(3)
            guest.wait_for("/health")
            events.let_pass(rnd.choice((0.0, 0.3, 1.5)))
            assert guest.stop() == 0, guest.said()
        st.worker(3)
        events.let_pass(1.0)
        assert st.worker(1).stop() == 0, st.worker(1).said()
        events.let_pass(1.0)
        st.worker(1)
        st.wait_until_ready()
        events.stop()
        st.assert_exactly_once()
