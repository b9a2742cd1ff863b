"""Dashboards about mail itself: overview, one user, addresses, providers, bounces, logins, cPanel."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards.model import Board

BOARDS: Final[tuple[Board, ...]] = ()
