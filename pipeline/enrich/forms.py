"""The forms of raw records: which parser reads what, by source and feed.

A record of a hook is an event already (``core.posted``), with aliases to be resolved.  Any other
record is its source's own JSON: its parser makes a posted event of it, or says why there is
none.  One line here is all that makes a parser known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from pipeline.core.posted import PostedEvent
from pipeline.enrich.parse import cpanel, gelf, haraka, probe, wildduck, zonemta, zonemta_log
from pipeline.enrich.parsing import Parser


@dataclass(frozen=True, slots=True)
class Form:
    """What phase 1 knows about the records of one source and feed."""

    direction: str | None
    """The direction of an event that does not say its own."""
    resolve: Callable[[PostedEvent], None]
    """Gives a posted event's aliases their meaning."""
    parse: Parser | None = None
    """None: the value is a posted event."""
    names_user: bool = False
    """Whether the source alone says who is accountable: nobody is, where it does not."""
    tells_of_probes: bool = False
    """Whether its events are outcomes of probes; the fields of these are dropped elsewhere."""


Forms: TypeAlias = Mapping[tuple[str, str], Form]
"""By source and feed."""


def as_it_is(_event: PostedEvent) -> None:
    """Resolve nothing: the parser has set the fields themselves."""


HOOKS: Final[Forms] = {
    ("zonemta", "hook"): Form(zonemta.DIRECTION, zonemta.resolve),
    ("haraka", "hook"): Form(haraka.DIRECTION, haraka.resolve),
}


def forms(*, gelf_mta_events: bool = False) -> Forms:
    """Return every form of record that phase 1 reads.

    Args:
        gelf_mta_events: Whether GELF tells what ZoneMTA did; no: its hooks do.
    """
    return {
        **HOOKS,
        ("zonemta", zonemta_log.FEED): Form(zonemta.DIRECTION, as_it_is, zonemta_log.parse),
        ("cpanel", "poll"): Form(None, as_it_is, cpanel.parse, names_user=True),
        ("gelf", "gelf"): Form(None, as_it_is, partial(gelf.parse, mta_events=gelf_mta_events)),
        ("wildduck", "gelf"): Form(None, as_it_is, wildduck.parse),
        ("probe", "probe"): Form(None, as_it_is, probe.parse, tells_of_probes=True),
    }
