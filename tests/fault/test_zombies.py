"""A worker is frozen until the group has given its partitions away, and then goes on."""

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
        st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        for frozen, other in ((1, 2), (2, 1)):
            events.let_pass(2.0)
            st.worker(frozen).freeze()
            st.wait_until_owns_all(st.worker(other))
            events.let_pass(1.0)
            st.worker(frozen).thaw()
            events.let_pass(1.0)
            st.wait_until_ready()
        events.stop()
        st.assert_exactly_once()


def test_a_worker_that_pauses_within_the_session_timeout_goes_on_as_if_nothing_was(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=3) as events:
        st.worker(1)
        st.worker(2)
        st.wait_until_ready()
        for number in (1, 2, 1):
            events.let_pass(1.0)
            st.worker(number).freeze()
            events.let_pass(4.0)
            st.worker(number).thaw()
        events.let_pass(1.0)
        st.wait_until_ready()
        events.stop()
        st.assert_exactly_once()
