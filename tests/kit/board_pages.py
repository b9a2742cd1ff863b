"""Pages that hold something of every metric that the dashboards and rules ask for."""

from __future__ import annotations

from tests.kit.probe_page import ProbePage
from tests.kit.prometheus import Pages


def pages() -> Pages:
    """Return a page per job."""
    return {"probe": ProbePage().look}
