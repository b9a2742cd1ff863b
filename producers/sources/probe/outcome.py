"""What came of a round, and the record that says so on ``mail.raw.probe``.

The record's id is a hash of origin, token and outcome: a mail that was lost may be found late, and
one that was delivered may come twice; each of these is told once, however often it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson
import xxhash

from pipeline.core.batch import OutRecord
from pipeline.core.timestamp import rfc3339
from producers.privacy import Privacy
from producers.sources.probe.attempt import Failure, Found, Phase, Sent
from producers.sources.probe.config import Route

SOURCE: Final = "probe"
FEED: Final = "probe"
TOPIC: Final = f"raw.{SOURCE}"


class Result(StrEnum):
    """How a round, or a mail of one, ended."""

    INBOX = "inbox"
    JUNK = "junk"
    LATE = "late"
    DUPLICATE = "duplicate"
    LOST = "lost"
    SEND_FAILED = "send_failed"
    RECEIVE_FAILED = "receive_failed"
    UNCERTAIN = "uncertain"


ARRIVED: Final = frozenset({Result.INBOX, Result.JUNK})
OF_ROUNDS: Final = frozenset(Result) - {Result.LATE, Result.DUPLICATE}
"""Results that end a round; the others are of mails of earlier ones."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one round, or of a mail of an earlier one."""

    route: Route
    token: str
    result: Result
    at_ms: int
    """Wall clock: when the round ended, or the mail was seen."""
    began_ms: int | None = None
    """When the round began; None for mails of earlier rounds."""
    sent: Sent | None = None
    found: Found | None = None
    failure: Failure | None = None
    phases_ms: dict[Phase, float] = field(default_factory=dict)
    roundtrip_ms: float | None = None
    """From the end of DATA to first sight; for a late mail from the beginning of its round."""
    certificate_days: dict[str, float] = field(default_factory=dict)
    reply_codes: dict[str, int] = field(default_factory=dict)
    troubles: tuple[Failure, ...] = ()
    """What failed on the way and was tried again."""
    mx_records: int | None = None
    mx_lookup_ms: float | None = None

    @property
    def step(self) -> str | None:
        """Return the label ``step`` of the failure: send, receive or config; None if there is none."""
        if self.failure is None:
            return None
        if self.failure.error_class == "config":
            return "config"
        return "send" if self.failure.phase in SENDING else "receive"


SENDING: Final = frozenset(
    {Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.AUTH, Phase.MAIL, Phase.RCPT, Phase.DATA}
)


def record_of(outcome: Outcome, origin: str, privacy: Privacy, received_ms: int) -> OutRecord:
    """Return the raw record: key the route, headers as of all raw topics."""
    identity = f"{origin}\x1f{outcome.token}\x1f{outcome.result.value}"
    return OutRecord(
        orjson.dumps(_fields(outcome, privacy)),
        outcome.route.name.encode(),
        [
            ("id", xxhash.xxh3_128_hexdigest(identity.encode()).encode()),
            ("source", SOURCE.encode()),
            ("feed", FEED.encode()),
            ("origin", origin.encode()),
            ("received", b"%d" % received_ms),
        ],
    )


def _fields(outcome: Outcome, privacy: Privacy) -> dict[str, Any]:
    route, failure, sent, found = outcome.route, outcome.failure, outcome.sent, outcome.found
    smtp = route.sender.smtp
    given = {
        "timestamp": rfc3339(outcome.at_ms),
        "route": route.name,
        "from": route.sender.name,
        "to": route.recipient.name,
        "token": outcome.token,
        "outcome": outcome.result.value,
        "failed_phase": None if failure is None else failure.phase.value,
        "error_class": None if failure is None else failure.error_class.value,
        "error": None if failure is None else privacy.reply(failure.text),
        "phases_ms": {phase.value: round(ms, 3) for phase, ms in outcome.phases_ms.items()} or None,
        "folder": None if found is None else found.folder,
        "roundtrip_ms": None if outcome.roundtrip_ms is None else round(outcome.roundtrip_ms, 3),
        "response_code": None if sent is None else sent.code,
        "enhanced_status": None if sent is None else sent.enhanced_status,
        "response_message": privacy.reply(sent.reply) if sent is not None and sent.reply else None,
        "from_domain": route.sender.domain or None,
        "to_domain": route.recipient.domain or None,
        "mx_host": None if smtp is None else smtp.host,
        "tries": None if sent is None else sent.tries,
    }
    return {name: value for name, value in given.items() if value is not None}
