"""Workers are killed at random moments while events flow."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.kit.flow import flow
from tests.kit.own_broker import OwnBroker
from tests.kit.stand import stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]

KILLS = 10
SEED = 20_260_101


def test_ten_kills_at_random_moments_lose_and_double_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    rnd = random.Random(SEED)
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=SEED) as events:
        st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        for _ in range(KILLS - 1):
            events.let_pass(rnd.uniform(0.2, 4.0))
            number = rnd.choice((1, 2))
            st.worker(number).kill()
            events.let_pass(rnd.choice((0.0, 0.0, 1.5)))
            st.worker(number)
        st.wait_until_ready()
        events.let_pass(2.0)
        st.worker(1).kill()
        seconds = st.wait_until_fresh()
        print(f"fresh numbers {seconds:.1f} s after the last kill")  # noqa: T201  a measurement
        st.worker(1)
        events.stop()
        st.assert_exactly_once()
