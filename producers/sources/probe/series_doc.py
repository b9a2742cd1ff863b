"""The table of metrics in ``docs/probe.md``, made from their declarations: run this module."""

from __future__ import annotations

from collections.abc import Iterator

from producers.sources.probe.series import COUNTERS, GAUGES, HISTOGRAMS


def rows() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| name | type | labels | meaning |"
    yield "|---|---|---|---|"
    kinds = ("gauge", GAUGES), ("counter", COUNTERS), ("histogram", HISTOGRAMS)
    for kind, declared in kinds:
        for name, (meaning, labels, *_) in declared.items():
            shown = ", ".join(f"`{label}`" for label in labels)
            yield f"| `{name}` | {kind} | {shown} | {meaning} |"


if __name__ == "__main__":
    print("\n".join(rows()))  # noqa: T201  its output is what it is for
