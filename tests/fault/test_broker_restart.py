"""The broker goes away and comes back while events flow; the workers stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.flow import flow
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.stand import stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]


def test_a_broker_that_is_stopped_killed_and_started_loses_and_doubles_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=5) as events:
        first, second = st.worker(1), st.worker(2)
        st.wait_until_ready()
        for end in (kafka.stop, kafka.kill):
            events.let_pass(3.0)
            end()
            kafka.start()
            events.let_pass(1.0)
            st.wait_until_ready()
        events.let_pass(1.0)
        kafka.kill()
        # Longer than sessions last, and transactions: those that were running fail.
        wait_until(lambda: not (first.ready() or second.ready()), "none is ready", within_s=60)
        kafka.start()
        events.let_pass(1.0)
        st.wait_until_ready()
        events.stop()
        assert first.running, first.said()
        assert second.running, second.said()
        st.assert_exactly_once()
