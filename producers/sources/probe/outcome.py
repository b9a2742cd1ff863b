"""What came of one mail, and the record of it on ``mail.raw.probe``.

The id has the outcome in it: a lost mail may be found late, and a delivered one come twice.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

import orjson

from pipeline.core.batch import OutRecord
from pipeline.core.timestamp import rfc3339
from producers.privacy import Privacy
from producers.sources.probe.attempt import ErrorClass, Failure, Found, Phase, Sent
from producers.sources.probe.config import Route
from producers.sources.probe.means import one_line

SOURCE: Final = "probe"
TOPIC: Final = f"raw.{SOURCE}"
ID_DIGITS: Final = 32
_MOST_NAME: Final = 255
SHORTEST_SECRET: Final = 3
"""What is shorter is in every text, and guessed at once."""
_IMAP: Final = frozenset(
    {
        Phase.IMAP_DNS,
        Phase.IMAP_CONNECT,
        Phase.IMAP_TLS,
        Phase.IMAP_AUTH,
        Phase.FOUND,
        Phase.VERIFY,
    }
)


class Kind(StrEnum):
    """What became of a mail."""

    INBOX = "inbox"
    JUNK = "junk"
    LATE = "late"
    """Of an earlier round, seen after its time was up."""
    DUPLICATE = "duplicate"
    LOST = "lost"
    """Accepted, and not seen in time."""
    SEND_FAILED = "send_failed"
    RECEIVE_FAILED = "receive_failed"
    """The mailbox could not be asked."""
    UNCERTAIN = "uncertain"
    """It may or may not have been accepted, and was not seen."""


class Step(StrEnum):
    """The label ``step`` of ``test_errors_total``."""

    SEND = "send"
    RECEIVE = "receive"
    CONFIG = "config"


def step_of(failure: Failure) -> Step:
    """Return which step a failure belongs to."""
    if failure.error_class is ErrorClass.CONFIG:
        return Step.CONFIG
    return Step.RECEIVE if failure.phase in _IMAP else Step.SEND


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome of a route."""

    route: Route
    token: str
    kind: Kind
    at_ms: int
    """When the round ended, or when a late or second mail was seen."""
    failure: Failure | None = None
    phases_ms: dict[Phase, float] = field(default_factory=dict)
    found: Found | None = None
    roundtrip_ms: float | None = None
    sent: Sent | None = None
    mail_servers: tuple[str, ...] | None = None
    """Mail exchangers of the recipient's domain; None: nobody would say."""
    mx_lookup_ms: float | None = None
    certificate_days: dict[str, float] = field(default_factory=dict)
    reply_codes: dict[str, int] = field(default_factory=dict)
    throttled: tuple[int, ...] = ()
    """Codes of replies that asked to come again."""
    send_at_ms: int | None = None
    """When the sending began."""
    receive_attempted: bool = False

    @property
    def is_round(self) -> bool:
        """Tell whether a round ended with it; else a mail of an earlier one was seen."""
        return self.kind not in (Kind.LATE, Kind.DUPLICATE)

    @property
    def delivered(self) -> bool:
        """Tell whether the mail was there in time."""
        return self.kind in (Kind.INBOX, Kind.JUNK)


def scrubber(secrets: tuple[str, ...], route: Route | None = None) -> Callable[[str], str]:
    """Return what takes *secrets* out of a text and makes it one line.

    Those of *route* go, too: the file in use may have others by now.
    """
    legs = () if route is None else (route.sender.smtp, route.recipient.imap)
    own = (leg.password for leg in legs if leg is not None and leg.password)
    every = sorted({*secrets, *(one for one in own if len(one) >= SHORTEST_SECRET)}, key=len)
    return lambda text: one_line(text, reversed(every))


class RecordMaker:
    """Makes records of outcomes."""

    def __init__(self, origin: str, privacy: Privacy) -> None:
        """Name this probe *origin*; *privacy* is applied to what servers said."""
        self._origin = origin
        self._privacy = privacy

    def record(self, outcome: Outcome, scrub: Callable[[str], str]) -> OutRecord:
        """Return the raw record of *outcome*; *scrub* takes secrets out of texts."""

        def told(text: str | None) -> str | None:
            return None if text is None else self._privacy.reply(scrub(text))

        name = outcome.route.name
        fields = {
            "timestamp": rfc3339(outcome.at_ms),
            "route": name,
            "from": outcome.route.sender.name,
            "to": outcome.route.recipient.name,
            "token": outcome.token,
            "outcome": outcome.kind.value,
            **_of_failure(outcome, told),
            "phases_ms": {phase.value: round(ms, 3) for phase, ms in outcome.phases_ms.items()},
            "folder": None if outcome.found is None else outcome.found.folder[:_MOST_NAME],
            "roundtrip_ms": outcome.roundtrip_ms and round(outcome.roundtrip_ms, 3),
            **_of_sending(outcome, told),
            "from_domain": outcome.route.sender.domain or None,
            "to_domain": outcome.route.recipient.domain or None,
        }
        value = orjson.dumps({key: one for key, one in fields.items() if one not in (None, {})})
        headers = [
            ("id", event_id(self._origin, outcome.token, outcome.kind).encode()),
            ("source", SOURCE.encode()),
            ("feed", SOURCE.encode()),
            ("origin", self._origin.encode()),
            ("received", b"%d" % outcome.at_ms),
        ]
        return OutRecord(value, name.encode(), headers)


def event_id(origin: str, token: str, kind: Kind) -> str:
    """Return the id of an outcome: the same however often it is written."""
    parts = orjson.dumps([SOURCE, origin, token, kind.value])
    return hmac.digest(b"", parts, sha256).hex()[:ID_DIGITS]


def _of_failure(outcome: Outcome, told: Callable[[str | None], str | None]) -> dict[str, Any]:
    failure = outcome.failure
    if failure is None:
        return {}
    return {
        "failed_phase": failure.phase.value,
        "error_class": failure.error_class.value,
        "error": told(failure.text),
    }


def _of_sending(outcome: Outcome, told: Callable[[str | None], str | None]) -> dict[str, Any]:
    sent = outcome.sent
    if sent is None:
        return {}
    smtp = outcome.route.sender.smtp
    return {
        "response_code": sent.code,
        "enhanced_status": sent.enhanced_status,
        "response_message": told(sent.reply),
        "mx_host": None if smtp is None else smtp.host,
        "tries": sent.tries,
    }
