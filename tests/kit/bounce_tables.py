"""The tables of ``docs/bounces.md``, made from the rule files.

``python -m tests.kit.bounce_tables`` writes them into the document, between its marks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.enrich.bounce_rules import BY_PROVIDER, CLASSES, THEIR_CLASSES, Hard
from pipeline.enrich.providers import NAMES, OTHER, PROVIDERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "bounces.md"
HARD = {Hard.YES: "unless 4xx", Hard.REPLY: "if 5xx", Hard.NO: "never"}
SYSTEMS = {"kumomta": "class of KumoMTA", "zonemta": "category of ZoneMTA"}
SHOWN_SUFFIXES = 6


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def classes() -> str:
    rows = [
        (f"`{name}`", one.category, one.scope, HARD[one.hard], one.meaning)
        for name, one in CLASSES.items()
    ]
    return table(("class", "category", "scope", "hard", "meaning"), rows)


def theirs(system: str) -> str:
    rows = [(f"`{name}`", f"`{ours}`") for name, ours in sorted(THEIR_CLASSES[system].items())]
    return table((SYSTEMS[system], "class"), rows)


def providers() -> str:
    rows = []
    for name in NAMES:
        suffixes = [suffix for suffix, provider in PROVIDERS.items() if provider == name]
        more = len(suffixes) - SHOWN_SUFFIXES
        shown = ", ".join(f"`{suffix}`" for suffix in suffixes[:SHOWN_SUFFIXES])
        if name != OTHER:
            told = f"{shown} and {more} more" if more > 0 else shown
            rows.append((f"`{name}`", told, str(len(BY_PROVIDER.get(name, ())) or "-")))
    return table(("provider", "suffixes", "rules of its own"), rows)


def written(text: str) -> str:
    """Return the document with its tables up to date."""
    tables = {
        "classes": classes(),
        "kumomta": theirs("kumomta"),
        "zonemta": theirs("zonemta"),
        "providers": providers(),
    }
    for name, made in tables.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _old, end, after = rest.partition(f"\n<!-- /{name} -->")
        if not end:
            raise ValueError(f"{DOCUMENT.name}: no table {name}")
        text = before + begin + made + end + after
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text("utf-8")), "utf-8")
