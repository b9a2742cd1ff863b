"""Every dashboard."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards import accounts, probe, probe_whole, traffic, watch
from mailstream.dashboards.model import Board

BOARDS: Final[tuple[Board, ...]] = (
    probe_whole.ALL_IN_ONE,
    probe.OVERVIEW,
    probe.ROUTE_DETAIL,
    probe.ERRORS,
    probe.SLO,
    *traffic.BOARDS,
    accounts.LOGINS,
    accounts.CPANEL,
    *watch.BOARDS,
)
