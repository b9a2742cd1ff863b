"""The routes of the view and their parameters, declared once: parsed and described from here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consumers.view.answers import RefusedError
from consumers.view.messages import ID
from pipeline.core.errors import RecordError
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import FAMILIES
from pipeline.core.timestamp import epoch_ms

DIMENSIONS: Final = tuple(family.name for family in FAMILIES)
MAX_TOP: Final = 1_000
MAX_TEXT: Final = 512
_LABELS: Final = tuple(dict.fromkeys(label for family in FAMILIES for label in family.labels))
_TIME: Final = r"\d{1,10}(\.\d{1,6})?|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"
_TEXT: Final = r"[^\x00-\x1f\x7f]+"
_DOMAIN: Final = r"[^\s/\\?#\x00-\x1f\x7f]{1,255}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query, or a part of a path."""

    name: str
    help: str
    among: tuple[str, ...] = ()
    """The values that it may have; empty: any that fit *pattern*."""
    pattern: str | None = None
    """A whole text."""
    numbers: tuple[int, int] | None = None
    """A whole number within these."""
    default: str | None = None
    required: bool = False
    repeated: bool = False
    in_path: bool = False

    def check(self, text: str) -> str:
        """Return *text* if it may be the value.

        Raises:
            RefusedError: It may not.
        """
        if self.among and text not in self.among:
            raise self._refusal(f"expected one of {', '.join(self.among)}")
        if self.numbers is not None:
            low, high = self.numbers
            digits = text.isascii() and text.isdigit() and len(text) <= len(str(high))
            if not digits or not low <= int(text) <= high:
                raise self._refusal(f"expected a whole number of {low} to {high}")
        if self.pattern is not None and re.fullmatch(self.pattern, text) is None:
            raise self._refusal("the value has another form than is expected")
        if not 0 < len(text) <= MAX_TEXT:
            raise self._refusal(f"expected 1 to {MAX_TEXT} characters")
        return text

    def schema(self) -> dict[str, Any]:
        """Return the value's schema, as OpenAPI has it."""
        if self.numbers is not None:
            low, high = self.numbers
            found: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
        else:
            found = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
        if self.among:
            found = {"type": "string", "enum": list(self.among)}
        if self.pattern is not None:
            found["pattern"] = f"^({self.pattern})$"
        if self.default is not None:
            found["default"] = int(self.default) if self.numbers else self.default
        return {"type": "array", "items": found, "maxItems": 8} if self.repeated else found

    def _refusal(self, why: str) -> RefusedError:
        return RefusedError(400, "invalid_parameter", f"{self.name}: {why}")


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the API."""

    path: str
    name: str
    summary: str
    answers: tuple[str, ...]
    """The fields that an answer always has."""
    parameters: tuple[Parameter, ...] = ()
    needs_key: bool = False
    statuses: tuple[int, ...] = ()
    """Of errors, beside those that every route may have."""
    media_type: str = "application/json"

    def parsed(
        self, query: Sequence[tuple[str, str]], path: Mapping[str, str]
    ) -> dict[str, list[str]]:
        """Return the values by name; a parameter that is absent has none.

        Raises:
            RefusedError: A parameter is unknown, missing, there twice, or has a value it may not have.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        given: dict[str, list[str]] = {name: [] for name in known}
        for name, text in (*query, *path.items()):
            parameter = known.get(name)
            if parameter is None or parameter.in_path != (name in path):
                raise RefusedError(
                    400, "unknown_parameter", f"Known are: {', '.join(known) or 'none'}."
                )
            given[name].append(parameter.check(text))
        for name, parameter in known.items():
            if not given[name] and parameter.required:
                raise RefusedError(400, "missing_parameter", f"{name}: expected a value")
            if len(given[name]) > (8 if parameter.repeated else 1):
                raise RefusedError(400, "invalid_parameter", f"{name}: given too often")
            if not given[name] and parameter.default is not None:
                given[name] = [parameter.default]
        return given


def routes(windows: Sequence[str]) -> tuple[Route, ...]:
    """Return the routes of a view that shows these windows."""
    dimension = Parameter("dimension", "What keys are.", DIMENSIONS, required=True)
    event_type = Parameter("event_type", "Only events of this type; absent: all.", EVENT_TYPES)
    window = "5m" if "5m" in windows else windows[0]
    moment = "seconds since the epoch or RFC 3339"
    told = ("at", "complete")
    return (
        Route(
            "/api/v1/metrics",
            "metrics",
            "Sums over all keys by window and event type, and the dimensions there are.",
            (*told, "windows", "dimensions"),
        ),
        Route(
            "/api/v1/nodes",
            "nodes",
            "Nodes: heartbeats of their senders, and the newest observations; sources of events.",
            (*told, "nodes", "sources"),
        ),
        Route(
            "/api/v1/top",
            "top",
            "The keys with the most events, each with its last reply, first and last seen.",
            (*told, "dimension", "window", "event_type", "labels", "keys", "total", "top"),
            (
                dimension,
                Parameter("window", "Over which time.", tuple(windows), default=window),
                event_type,
                Parameter("n", "How many keys.", numbers=(1, MAX_TOP), default="20"),
                Parameter("by", "Summed by this label alone, if it has few values.", _LABELS),
            ),
        ),
        Route(
            "/api/v1/series",
            "series",
            "Events by type over time, of one key or of all.",
            (*told, "dimension", "key", "step_s", "times", "events"),
            (
                dimension,
                Parameter(
                    "key",
                    "Once for each field of the key; absent: all.",
                    pattern=_TEXT,
                    repeated=True,
                ),
                Parameter("from", f"First moment, {moment}; absent: an hour ago.", pattern=_TIME),
                Parameter("to", f"Last moment, {moment}; absent: now.", pattern=_TIME),
            ),
            statuses=(404, 503),
        ),
        Route(
            "/api/v1/destinations/{domain}",
            "destination",
            "How delivery to a recipient domain goes: events, classes, what waits, delivery times.",
            (*told, "domain", "events", "classes", "waiting", "delivery_ms", "hosts"),
            (Parameter("domain", "The domain.", pattern=_DOMAIN, required=True, in_path=True),),
            statuses=(404,),
        ),
        Route(
            "/api/v1/messages/{queue_id}",
            "message",
            "A message that waits in a queue of ZoneMTA, without what would name people.",
            ("queue_id", "node", "message", "deliveries"),
            (Parameter("queue_id", "Its id.", pattern=ID, required=True, in_path=True),),
            needs_key=True,
            statuses=(401, 403, 404, 502),
        ),
        Route("/api/v1/alerts", "alerts", "The newest alerts, open ones first.", (*told, "alerts")),
        Route(
            "/api/v1/events",
            "events",
            "Live events, at most 50 a second; what is left out is counted.",
            (),
            (event_type,),
            statuses=(503,),
            media_type="text/event-stream",
        ),
        Route("/health", "health", "How the view is.", ("status", "detail"), statuses=(503,)),
    )


def moment_of(name: str, texts: Sequence[str]) -> int | None:
    """Return the time that a parameter names, in ms since the epoch; None: it is absent.

    Raises:
        RefusedError: There is no such time.
    """
    if not texts:
        return None
    (text,) = texts
    try:
        return epoch_ms(text if "T" in text else float(text))
    except RecordError as exc:
        raise RefusedError(400, "invalid_parameter", f"{name}: there is no such time") from exc
