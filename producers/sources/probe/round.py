"""One round of one route: a mail is sent, looked for, and an outcome made of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from pipeline.kit.clock import Clock
from pipeline.kit.service import outcome as result_of
from producers.sources.probe.attempt import Course, ErrorClass, Failure, Found, Phase, Sent
from producers.sources.probe.config import Options, Route
from producers.sources.probe.legs import Legs
from producers.sources.probe.names import MailServers
from producers.sources.probe.outcome import Kind, Outcome

_SLACK_S: Final = 60.0
_SMTP_PHASES, _TRIES, _IMAP_COMMANDS = 8, 3, 6

Watch = Callable[[Course, Course], None]
"""Told of both courses after each change."""


def longest_s(route: Route, options: Options) -> float:
    """Return after how long a round is given up, whatever its legs think: a last resort."""
    smtp = route.sender.smtp.timeout_s if route.sender.smtp else 0.0
    imap = route.recipient.imap.timeout_s if route.recipient.imap else 0.0
    looking = max(route.receive_timeout_s, options.uncertain_probe_timeout_seconds)
    return _TRIES * _SMTP_PHASES * smtp + looking + _IMAP_COMMANDS * imap + _SLACK_S


class Round:
    """One mail of one route."""

    def __init__(
        self, route: Route, options: Options, legs: Legs, clock: Clock, watch: Watch | None = None
    ) -> None:
        """Take the route as it is now: a later version of the file does not change this round."""
        self.route = route
        self.options = options
        self.token = legs.token(route.name, clock.now_ms())
        self._legs = legs
        self._clock = clock
        self._out, self._in = Course(), Course()
        if watch is not None:
            self._out.on_change = self._in.on_change = lambda _: watch(self._out, self._in)
        self._began = 0.0
        self._began_ms = 0
        self._attempted = False

    async def run(self) -> list[Outcome]:
        """Return the outcome of this mail, and those of further copies of it."""
        self._began, self._began_ms = self._clock.monotonic(), self._clock.now_ms()
        servers = asyncio.create_task(self._legs.mail_servers(self.route.recipient.domain))
        try:
            sent, found = await self._both_legs()
            known = await result_of(servers)
        finally:
            servers.cancel()
        mx = known if isinstance(known, MailServers) else None
        first = self._outcome(sent, found, mx)
        return [first, *self._copies(found)]

    async def _both_legs(self) -> tuple[Sent | None, Found | None]:
        """Go through both legs; one that breaks a promise and raises, or never ends, has failed."""
        sent: Sent | None = None
        try:
            async with asyncio.timeout(longest_s(self.route, self.options)):
                sent = await self._sent()
                found = await self._received(sent) if sent.accepted or sent.uncertain else None
        except TimeoutError:
            self._broke(sent, ErrorClass.TIMEOUT, "the round took too long and was given up")
            return sent, None
        except Exception as exc:  # noqa: BLE001  one route's surprise must not end the others
            self._broke(sent, ErrorClass.PROTOCOL, f"unexpected: {type(exc).__name__}: {exc}")
            return sent, None
        return sent, found

    def _broke(self, sent: Sent | None, kind: ErrorClass, text: str) -> None:
        course, phase = (self._out, Phase.CONNECT) if sent is None else (self._in, Phase.FOUND)
        course.failure = Failure(course.running or phase, kind, text)

    async def _sent(self) -> Sent:
        route = self.route
        return await self._legs.send(
            route.sender,
            route.recipient,
            route.name,
            self.token,
            self.options.subject_prefix,
            self._out,
        )

    async def _received(self, sent: Sent) -> Found | None:
        options = self.options
        timeout_s, poll_s = self.route.receive_timeout_s, options.receive_poll_seconds
        if sent.uncertain:
            if not options.uncertain_probe_on_timeout:
                return None
            timeout_s = options.uncertain_probe_timeout_seconds
            poll_s = options.uncertain_probe_poll_seconds
        self._attempted = True
        return await self._legs.receive(
            self.route.recipient,
            self.token,
            self._in,
            poll_s=poll_s,
            timeout_s=timeout_s,
            delete=options.delete_testmail_after_verify,
            sent_monotonic=sent.at_monotonic,
        )

    def _outcome(self, sent: Sent | None, found: Found | None, mx: MailServers | None) -> Outcome:
        kind = self._kind(sent, found)
        failure = None
        if found is None:
            sending_failed = kind in (Kind.SEND_FAILED, Kind.UNCERTAIN)
            failure = self._out.failure if sending_failed else self._in.failure
            failure = failure or self._out.failure or self._in.failure
        failures = [*self._out.earlier, *([self._out.failure] if self._out.failure else [])]
        return Outcome(
            self.route,
            self.token,
            kind,
            self._clock.now_ms(),
            failure=failure,
            phases_ms={**self._out.phases_ms, **self._in.phases_ms},
            found=found,
            roundtrip_ms=self._roundtrip_ms(sent) if found is not None else None,
            sent=sent,
            mail_servers=None if mx is None or mx.error else mx.hosts,
            mx_lookup_ms=None if mx is None else mx.lookup_ms,
            certificate_days={**self._out.certificate_days, **self._in.certificate_days},
            reply_codes=dict(self._out.reply_codes),
            throttled=_throttled(failures),
            send_at_ms=self._began_ms,
            receive_attempted=self._attempted,
        )

    def _kind(self, sent: Sent | None, found: Found | None) -> Kind:
        if found is not None:
            return Kind.JUNK if found.junk else Kind.INBOX
        if sent is None or not (sent.accepted or sent.uncertain):
            return Kind.SEND_FAILED
        if sent.uncertain:
            return Kind.UNCERTAIN
        failure = self._in.failure
        looked = (ErrorClass.NOT_FOUND, ErrorClass.QUOTA)
        if failure is None or (failure.phase is Phase.FOUND and failure.error_class in looked):
            return Kind.LOST
        return Kind.RECEIVE_FAILED

    def _roundtrip_ms(self, sent: Sent | None) -> float | None:
        """Return the time from the beginning of the round until the mail was seen."""
        if sent is None or sent.at_monotonic is None:
            return None
        sending_ms = (sent.at_monotonic - self._began) * 1000
        return sending_ms + self._in.phases_ms.get(Phase.FOUND, 0.0)

    def _copies(self, found: Found | None) -> list[Outcome]:
        """Return one outcome where there was more than one copy."""
        if found is None or found.copies <= 1:
            return []
        now_ms = self._clock.now_ms()
        return [Outcome(self.route, self.token, Kind.DUPLICATE, now_ms, found=found)]


def _throttled(failures: Sequence[Failure]) -> tuple[int, ...]:
    return tuple(
        one.smtp_code
        for one in failures
        if one.error_class is ErrorClass.THROTTLED and one.smtp_code is not None
    )
