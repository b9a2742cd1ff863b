"""Dashboards about what carries the mail: sources, nodes, stores, and the pipeline."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards.model import Board

BOARDS: Final[tuple[Board, ...]] = ()
