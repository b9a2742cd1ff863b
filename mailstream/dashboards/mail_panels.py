"""Panels about windows that several dashboards show; workers are always summed."""

from __future__ import annotations

from typing import Final

from mailstream.dashboards.model import Panel, Query, Variable, bars, lines, stat, table

WINDOW: Final = Variable("window", "Window", "1h", "label_values(mail_node_events, window)")
W: Final = 'window="$window"'
OUTCOMES: Final = 'event_type=~"bounced|delivered"'
ATTEMPTS: Final = 'event_type=~"bounced|delivered|deferred"'
RATE_STEPS: Final = ((0.05, "orange"), (0.1, "red"))


def many(name: str, label: str, metric: str) -> Variable:
    """Return a variable of all values that a label of *metric* has."""
    return Variable(name, label, "", f"label_values({metric}, {name})", many=True)


def complete() -> Panel:
    """Return whether the windows can be trusted: every dashboard about them begins with it."""
    return stat(
        "Windows complete",
        Query("min(mailstream_windows_complete)", "all workers"),
        names=((1, "YES", "green"), (0, "NO", "red")),
        description="NO while a worker re-folds or is behind: then the numbers here are too low.",
    )


def number(title: str, metric: str, where: str) -> Panel:
    """Return the sum of a window."""
    return stat(title, Query(f"sum({metric}{{{W}, {where}}}) or vector(0)", title.lower()))


def share(title: str, metric: str, event_type: str, among: str, by: str, where: str = "") -> Panel:
    """Return the keys of which the largest share of outcomes is of *event_type*."""
    extra = f", {where}" if where else ""
    part = f'sum by ({by}) ({metric}{{{W}, event_type="{event_type}"{extra}}})'
    whole = f"sum by ({by}) ({metric}{{{W}, {among}{extra}}})"
    name = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return bars(
        title,
        Query(f"topk(20, {part} / {whole} or 0 * {whole})", name),
        unit="percentunit",
        lowest=0,
        highest=1,
        steps=RATE_STEPS,
    )


def top(title: str, metric: str, by: str, where: str = "", most: int = 20) -> Panel:
    """Return the keys with the highest numbers."""
    extra = f", {where}" if where else ""
    return table(
        title, Query(f"topk({most}, sum by ({by}) ({metric}{{{W}{extra}}}))", title.lower())
    )


def over_time(
    title: str, metric: str, by: str, where: str = "", *, unit: str = "short", stacked: bool = False
) -> Panel:
    """Return a window's numbers over time."""
    extra = f", {where}" if where else ""
    name = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return lines(
        title, Query(f"sum by ({by}) ({metric}{{{W}{extra}}})", name), unit=unit, stacked=stacked
    )


def different(title: str, metric: str, by: str, where: str = "") -> Panel:
    """Return how many different values the keys with the most of them had in an hour.

    Distinct values are counted over 5m and 1h alone: they do not follow the dashboard's window.
    """
    extra = f", {where}" if where else ""
    name = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return lines(
        title,
        Query(f'topk(20, sum by ({by}) ({metric}{{window="1h"{extra}}}))', name),
        description="Different ones in an hour, exact up to 1,000.",
    )
