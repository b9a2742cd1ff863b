"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.broker import session_broker


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Return the bootstrap address of the session's broker; topics and groups are by uuid."""
    with session_broker() as bootstrap:
        yield bootstrap
