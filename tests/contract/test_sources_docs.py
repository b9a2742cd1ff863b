"""``docs/sources.md`` names what the node agent shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from prometheus_client import CollectorRegistry

from producers.sources import nodes
from producers.sources.nodes.board import Board
from producers.sources.nodes.samples import COUNTER, Family

TEXT = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
NAMED = set(re.findall(r"`([^`\s]+)`", TEXT))


def families(value: Any) -> Iterator[Family]:
    """Yield every family in a module's constant."""
    if isinstance(value, Family):
        yield value
    elif isinstance(value, dict | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from families(part)


def test_every_metric_of_a_collector_is_documented_and_no_other_is() -> None:
    modules = [
        import_module(f"{nodes.__name__}.{one.name}") for one in iter_modules(nodes.__path__)
    ]
    names = {
        found.name + ("_total" if found.kind == COUNTER else "")
        for module in modules
        for value in vars(module).values()
        for found in families(value)
    }
    assert len(names) > 80
    assert not names - NAMED
    ours = {name for name in NAMED if re.match(r"mail_(system|mongodb|redis)_\w+$", name)}
    assert not ours - names


def test_what_is_shown_of_every_target_is_documented() -> None:
    registry = CollectorRegistry()
    Board(registry)
    assert not {family.name for family in registry.collect()} - NAMED
