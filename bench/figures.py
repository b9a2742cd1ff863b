"""Figures that benches print, the bars that they should clear, and the records of past runs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

RECORDS: Final = Path(__file__).with_name("records.jsonl")
TOLERANCE: Final = 0.7
"""A bench fails below this share of the figure that the machine has on record."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    bench: str
    value: float
    unit: str
    bar: float | None = None
    """The value to reach, where one is promised."""
    at_most: bool = False
    """Less is better."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What the number was measured with."""

    def clears(self) -> bool:
        """Tell whether the bar is cleared."""
        if self.bar is None:
            return True
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def holds(self, recorded: float) -> bool:
        """Tell whether the value is at least 70 % as good as the *recorded* one."""
        if self.at_most:
            return self.value * TOLERANCE <= recorded
        return self.value >= recorded * TOLERANCE

    def line(self) -> dict[str, Any]:
        """Return what is printed and recorded."""
        return {
            "bench": self.bench,
            "value": round(self.value, 2),
            "unit": self.unit,
            "bar": self.bar,
            "at_most": self.at_most,
            **self.more,
            "commit": _commit(),
            "python": platform.python_version(),
            "machine": machine(),
        }


def machine() -> str:
    """Return what figures may be compared between: processor, cores, kind of system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def recorded(bench: str, path: Path = RECORDS) -> float | None:
    """Return the newest value of *bench* that this machine has on record."""
    if not path.exists():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    here = machine()
    values = [one["value"] for one in lines if (one["bench"], one["machine"]) == (bench, here)]
    return float(values[-1]) if values else None


def record(figures: Iterable[Figure], path: Path = RECORDS) -> None:
    """Append *figures* to the records."""
    with path.open("a") as records:
        records.writelines(json.dumps(figure.line()) + "\n" for figure in figures)


def table(figures: Iterable[Figure]) -> tuple[str, bool]:
    """Return the figures beside bar and record, and whether all hold against the record."""
    rows = [("bench", "value", "unit", "bar", "", "record", "")]
    all_hold = True
    for figure in figures:
        before = recorded(figure.bench)
        holds = before is None or figure.holds(before)
        all_hold = all_hold and holds
        sign = "<=" if figure.at_most else ">="
        rows.append(
            (
                figure.bench,
                _number(figure.value),
                figure.unit,
                "" if figure.bar is None else f"{sign} {_number(figure.bar)}",
                "" if figure.bar is None else "cleared" if figure.clears() else "MISSED",
                "" if before is None else _number(before),
                "" if holds else "FAILED: below 70 % of the record",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return text, all_hold


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _commit() -> str:
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=RECORDS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip()
