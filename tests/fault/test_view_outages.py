"""The view while Kafka goes away, is killed and comes back: nothing is lost or counted twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.flow import flow
from tests.kit.oracle import Recount
from tests.kit.own_broker import OwnBroker
from tests.kit.processes import wait_until
from tests.kit.traffic import CLASSES
from tests.kit.view import viewed, wait_until_equal

pytestmark = [pytest.mark.integration, pytest.mark.fault]

WITHIN_S = 120.0


def test_a_broker_that_goes_away_and_comes_back_changes_no_number(
    kafka: OwnBroker, tmp_path: Path
) -> None:
    with viewed(kafka.bootstrap, tmp_path) as (st, view):
        st.worker()
        st.wait_until_ready()
        with flow(st, rate=500, seed=11) as events:
            events.let_pass(2)
        kafka.kill()
        before = view.ask("top", dimension="node", window="1h")
        assert before["total"] > 0
        wait_until(lambda: not view.answers("/health"), "it tells", within_s=WITHIN_S)
        assert not view.ask("metrics")["complete"]
        kafka.start()
        view.wait_until_complete(within_s=WITHIN_S)
        st.wait_until_ready()
        with flow(st, rate=500, seed=12) as events:
            events.let_pass(2)
        st.wait_until_caught_up()
        wait_until_equal(view, Recount(st.posted(), CLASSES))
        assert view.running
