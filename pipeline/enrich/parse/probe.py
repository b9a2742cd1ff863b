"""Outcomes of roundtrip probes: what became of one mail, and how long each phase of its way took."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pipeline.core.errors import Reason, RecordError
from pipeline.core.event import PROBE_OUTCOMES
from pipeline.core.posted import PostedEvent, malformed
from pipeline.enrich.parsing import Context, Skip

FIELDS: Final = {
    "timestamp": "timestamp",
    "route": "route",
    "outcome": "outcome",
    "failed_phase": "failed_phase",
    "error_class": "error_class",
    "error": "error_message",
    "phases_ms": "phases_ms",
    "folder": "folder",
    "roundtrip_ms": "delivery_time_ms",
    "response_code": "response_code",
    "enhanced_status": "enhanced_status",
    "response_message": "response_message",
    "from_domain": "from_domain",
    "to_domain": "to_domain",
    "mx_host": "mx_host",
    "tries": "attempt",
}
"""Fields of a record that are kept, and of which field of the event they are the value."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def parse(value: bytes, _context: Context) -> PostedEvent | Skip:
    """Return the event of one outcome.

    Raises:
        RecordError: It is no outcome of a route.
    """
    try:
        record = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise malformed(exc) from exc
    fields = {name: record[key] for key, name in FIELDS.items() if record.get(key) is not None}
    took_ms = fields.get("delivery_time_ms")
    if isinstance(took_ms, int | float) and took_ms < 0:
        del fields["delivery_time_ms"]  # the probe's clock was set back: it ended all the same
    try:
        event = msgspec.convert({**fields, "event_type": "probe"}, PostedEvent)
    except msgspec.ValidationError as exc:
        raise RecordError(Reason.INVALID_FIELD, str(exc)) from exc
    for name in ("route", "outcome"):
        if not getattr(event, name):
            raise RecordError(Reason.MISSING_FIELD, f"{name} is required")
    if event.outcome not in PROBE_OUTCOMES:
        known = ", ".join(PROBE_OUTCOMES)
        raise RecordError(Reason.INVALID_FIELD, f"outcome is not one of {known}")
    return event
