"""Mails of earlier rounds that are seen later: late ones, second copies, and what others left over.

A mail that was given up and comes after all is late.  One that was found already is a duplicate.
One that this process knows nothing of was left by an earlier process: it is late if it arrived
after its time, else it is only cleaned up, since nobody waited for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from pipeline.kit.clock import Clock
from pipeline.kit.service import outcome as result_of
from producers.sources.probe.attempt import Found
from producers.sources.probe.config import Options, Route
from producers.sources.probe.legs import Legs
from producers.sources.probe.outcome import Kind, Outcome

log = logging.getLogger(__name__)

EAGER_MS: Final = 3_600_000
"""So long a lost mail is looked for after each round, and so often a mailbox is looked through."""
_MOST_TOKENS: Final = 200
_LONGEST_S: Final = 300.0


class Earlier:
    """What is known of one route's earlier mails."""

    def __init__(self, legs: Legs, clock: Clock) -> None:
        self._legs = legs
        self._clock = clock
        self._ended: dict[str, Kind] = {}
        """The last outcome of each mail, oldest first; bounded."""
        self._awaited: dict[str, int] = {}
        """When mails that may still come were given up."""
        self._looked_ms: int | None = None
        self.left_over = 0
        """Mails of earlier processes that were cleaned up, since the last call."""

    def ended(self, outcome: Outcome) -> None:
        """Note how a mail ended."""
        self._note(outcome.token, outcome.kind)
        if outcome.kind in (Kind.LOST, Kind.UNCERTAIN, Kind.RECEIVE_FAILED):
            self._awaited[outcome.token] = outcome.at_ms

    async def look(self, route: Route, options: Options, running: str | None) -> list[Outcome]:
        """Look for such mails, where there may be some, and return what they mean."""
        now_ms = self._clock.now_ms()
        self.left_over = 0
        self._awaited = {
            token: at for token, at in self._awaited.items() if 0 <= now_ms - at < EAGER_MS
        }
        hourly = self._looked_ms is None or now_ms - self._looked_ms >= EAGER_MS
        if route.recipient.imap is None or not (hourly or self._awaited):
            return []
        looking = self._legs.others(
            route.recipient,
            prefix=options.subject_prefix,
            route=route.name,
            skip=() if running is None else (running,),
            before_ms=now_ms,
            delete=options.delete_testmail_after_verify,
        )
        # Whatever goes wrong here was told by the round, or will be by the next.
        found = await result_of(asyncio.wait_for(looking, _LONGEST_S))
        if isinstance(found, Exception):
            log.debug("no look for late mail", extra={"route": route.name, "error": str(found)})
            return []
        self._looked_ms = now_ms
        return self._outcomes(route, options, found)

    def _outcomes(self, route: Route, options: Options, seen: Sequence[Found]) -> list[Outcome]:
        outcomes = []
        for found in seen:
            kind = self._kind_of(route, options, found)
            if kind is None:
                continue
            self._note(found.token, kind)
            self._awaited.pop(found.token, None)
            roundtrip = None
            if kind is Kind.LATE and found.sent_ms is not None:
                arrived = found.internal_date_ms or found.first_seen_ms
                roundtrip = float(max(arrived - found.sent_ms, 0))
            outcomes.append(
                Outcome(
                    route,
                    found.token,
                    kind,
                    found.first_seen_ms,
                    found=found,
                    roundtrip_ms=roundtrip,
                )
            )
        return outcomes

    def _kind_of(self, route: Route, options: Options, found: Found) -> Kind | None:
        known = self._ended.get(found.token)
        if known in (Kind.LOST, Kind.UNCERTAIN, Kind.RECEIVE_FAILED, Kind.SEND_FAILED):
            return Kind.LATE
        if known is not None:
            # Where mails are kept, one that was counted is seen again and again.
            fresh = options.delete_testmail_after_verify and known is not Kind.DUPLICATE
            return Kind.DUPLICATE if fresh else None
        if not options.delete_testmail_after_verify:
            return None
        self.left_over += found.copies
        arrived, sent = found.internal_date_ms, found.sent_ms
        if arrived is not None and sent is not None:
            late = arrived - sent > route.receive_timeout_s * 1000
            return Kind.LATE if late else None
        return None

    def _note(self, token: str, kind: Kind) -> None:
        self._ended.pop(token, None)
        self._ended[token] = kind
        while len(self._ended) > _MOST_TOKENS:
            self._ended.pop(next(iter(self._ended)))
