"""A commit fails at each of its steps, as far as the worker knows; in truth it may have succeeded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import interrupted_worker
from tests.kit.flow import flow
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import Worker, wait_until
from tests.kit.scrape import Page
from tests.kit.stand import stand

pytestmark = [pytest.mark.integration, pytest.mark.fault]


def test_a_failure_at_any_step_of_a_commit_loses_and_doubles_nothing(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with stand(kafka.bootstrap, tmp_path) as st, flow(st, seed=9) as events:
        for number, step in enumerate(interrupted_worker.STEPS, 1):
            st.worker(number, [interrupted_worker.__name__, "fail", step, "20"])
        wait_until(lambda: all(map(failed, st.running())), "each meets its error", within_s=60)
        events.let_pass(2.0)
        st.wait_until_ready()
        events.stop()
        assert len(st.running()) == len(interrupted_worker.STEPS)
        st.assert_exactly_once()


def failed(worker: Worker) -> bool:
    """Tell whether a transaction of the worker has failed."""
    return Page([worker.metrics() or ""]).total("mailstream_transactions_failed_total") > 0
