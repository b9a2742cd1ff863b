"""The broker goes away while a worker opens its partitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.flow import flow
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import Worker, wait_until
from tests.kit.stand import stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]


def test_partitions_are_opened_once_the_broker_is_back(kafka: OwnBroker, tmp_path: Path) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=6) as events:
        worker = st.worker(1)
        st.wait_until_ready()
        events.let_pass(2.0)
        for end in (kafka.kill, kafka.stop):
            worker.stop()
            worker.start()
            wait_until(lambda: opening(worker), "the worker opens partitions", within_s=60)
            end()
            kafka.start()
            events.let_pass(1.0)
            st.wait_until_ready()
        events.stop()
        assert worker.running, worker.said()
        st.assert_exactly_once()


def opening(worker: Worker) -> bool:
    """Tell whether partitions were assigned to it."""
    page = worker.metrics()
    return page is not None and "mailstream_lag{" in page
