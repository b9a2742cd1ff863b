"""What the fault tests share: a broker that they may stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.own_broker import OwnBroker, own_broker


@pytest.fixture(scope="session")
def _own_broker() -> Iterator[OwnBroker]:
    with own_broker() as running:
        yield running


@pytest.fixture
def kafka(_own_broker: OwnBroker) -> OwnBroker:
    """Return a broker of our own that runs; a test may leave it stopped."""
    _own_broker.ensure()
    return _own_broker
