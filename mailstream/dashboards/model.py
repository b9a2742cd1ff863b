"""What a dashboard is made of: plain data, checked by tests and built by ``build.py``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

Steps = tuple[tuple[float, str], ...]
"""Values from which a colour holds; below the first it is green."""


class Kind(StrEnum):
    """How a panel shows its numbers."""

    STAT = "stat"
    GAUGE = "gauge"
    BARS = "bargauge"
    LINES = "timeseries"
    PIE = "piechart"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression; *name* is its legend, in tables its column."""

    expr: str
    name: str = ""
    unit: str | None = None
    """Unit of a table's column, where that is not the panel's."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel."""

    title: str
    kind: Kind
    queries: tuple[Query, ...]
    description: str = ""
    unit: str = "short"
    width: int = 12
    height: int = 8
    steps: Steps = ()
    base: str = "green"
    """The colour below the first step."""
    lowest: float | None = None
    highest: float | None = None
    names: tuple[tuple[int, str, str], ...] = ()
    """Values that are shown as a word in a colour."""
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a dashboard: of *query*, else of *choices*, else a text to type."""

    name: str
    label: str
    default: str
    query: str = ""
    choices: tuple[str, ...] = ()
    many: bool = False
    """Whether several and all may be chosen."""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; *name* is its file and its uid."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    since: str = "now-24h"
    tags: tuple[str, ...] = ("mailstream",)

    def panels(self) -> Iterator[Panel]:
        """Yield its panels in order."""
        for row in self.rows:
            yield from row.panels


def lines(title: str, *queries: Query, unit: str = "short", **more: object) -> Panel:
    """Return a panel of lines over time."""
    return _panel(title, Kind.LINES, queries, unit, more)


def table(title: str, *queries: Query, unit: str = "short", **more: object) -> Panel:
    """Return a table with a column per query."""
    return _panel(title, Kind.TABLE, queries, unit, more)


def stat(title: str, *queries: Query, unit: str = "short", **more: object) -> Panel:
    """Return a big number per series."""
    return _panel(title, Kind.STAT, queries, unit, {"width": 6, "height": 5, **more})


def bars(title: str, *queries: Query, unit: str = "short", **more: object) -> Panel:
    """Return a bar per series, as they are now."""
    return _panel(title, Kind.BARS, queries, unit, more)


def pie(title: str, *queries: Query, unit: str = "short", **more: object) -> Panel:
    """Return a pie of the series, as they are now."""
    return _panel(title, Kind.PIE, queries, unit, more)


def gauge(title: str, *queries: Query, unit: str = "short", **more: object) -> Panel:
    """Return a dial per series."""
    return _panel(title, Kind.GAUGE, queries, unit, more)


def _panel(
    title: str, kind: Kind, queries: tuple[Query, ...], unit: str, more: dict[str, object]
) -> Panel:
    return Panel(title, kind, queries, unit=unit, **more)  # type: ignore[arg-type]  # each option is checked by its use
