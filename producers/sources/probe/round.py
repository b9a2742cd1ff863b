"""One round of a route: send a mail, look for it, and look for what earlier rounds left.

A round always ends, with exactly one result; what is found of earlier rounds are outcomes of
their own and never count for this one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from producers.sources.probe.attempt import Course, ErrorClass, Failure, Found, Phase, Sent
from producers.sources.probe.config import Config, Route
from producers.sources.probe.config_model import ExporterKeys
from producers.sources.probe.means import Means
from producers.sources.probe.message import compose
from producers.sources.probe.outcome import ARRIVED, Outcome, Result
from producers.sources.probe.receive import look_for_others, receive
from producers.sources.probe.send import send
from producers.sources.probe.token import new_token

REMEMBERED: Final = 1000
"""Tokens of earlier rounds that a route knows: of three days at the usual interval."""
SWEEP_EVERY_S: Final = 3600.0
_NOT_THERE: Final = frozenset({ErrorClass.NOT_FOUND, ErrorClass.QUOTA})


@dataclass(slots=True)
class Past:
    """What a route knows of its earlier rounds; survives a reload of the configuration."""

    tokens: OrderedDict[str, tuple[Result, int]] = field(default_factory=OrderedDict)
    """Result, and how many copies that were told are still in the mailbox; by token, oldest first."""
    swept_at: float | None = None

    def note(self, token: str, result: Result, found: Found | None) -> None:
        """Remember how a round ended, or that a mail of it was *found* later."""
        there = 0 if found is None or found.deleted else found.copies
        self.tokens[token] = (result, there)
        while len(self.tokens) > REMEMBERED:
            self.tokens.popitem(last=False)

    @property
    def misses_some(self) -> bool:
        """Tell whether a mail may still come."""
        return any(result in _MAY_COME for result, _ in self.tokens.values())


_MAY_COME: Final = frozenset({Result.LOST, Result.UNCERTAIN, Result.RECEIVE_FAILED})
_SEEN: Final = frozenset({*ARRIVED, Result.LATE})


@dataclass(frozen=True, slots=True)
class Courses:
    """Both legs of the round that is under way, for whoever watches."""

    sending: Course
    receiving: Course

    @property
    def certificate_days(self) -> dict[str, float]:
        """Return the days left by endpoint."""
        return {**self.sending.certificate_days, **self.receiving.certificate_days}

    @property
    def phases_ms(self) -> dict[Phase, float]:
        """Return the time of each phase that ended, in the order of a round."""
        known = {**self.sending.phases_ms, **self.receiving.phases_ms}
        return {phase: known[phase] for phase in Phase if phase in known}


class Round:
    """One mail on one route."""

    def __init__(
        self,
        route: Route,
        exporter: ExporterKeys,
        key: bytes,
        means: Means,
        past: Past,
        on_change: Callable[[Course], None] | None = None,
    ) -> None:
        """Take what is needed; *on_change* is told of each step of either leg."""
        self._route, self._exporter, self._key = route, exporter, key
        self._means, self._past = means, past
        self.courses = Courses(Course(on_change), Course(on_change))
        self.began_ms = means.clock.now_ms()
        self.token = new_token(key, route.name, self.began_ms)

    async def run(self) -> Outcome:
        """Send the mail and look for it."""
        route, exporter, courses = self._route, self._exporter, self.courses
        mail_servers = await self._means.names.mail_servers(route.recipient.domain)
        message = compose(
            prefix=exporter.subject_prefix,
            route=route.name,
            token=self.token,
            sender=route.sender.address,
            recipient=route.recipient.address,
            now_ms=self.began_ms,
        )
        sent = await send(route.sender, message, courses.sending, self._means)
        found = await self._look(sent)
        result = self._result(sent, found)
        self._past.note(self.token, result, found)
        failure = courses.sending.failure or courses.receiving.failure
        arrived = found is not None
        return Outcome(
            route=route,
            token=self.token,
            result=result,
            at_ms=self._means.clock.now_ms(),
            began_ms=self.began_ms,
            sent=sent,
            found=found,
            failure=None if arrived else failure,
            phases_ms=courses.phases_ms,
            roundtrip_ms=courses.receiving.phases_ms.get(Phase.FOUND) if arrived else None,
            certificate_days=courses.certificate_days,
            reply_codes=dict(courses.sending.reply_codes),
            troubles=(*courses.sending.earlier, *courses.receiving.earlier),
            mx_records=len(mail_servers.hosts) if mail_servers.error is None else None,
            mx_lookup_ms=mail_servers.lookup_ms,
        )

    async def _look(self, sent: Sent) -> Found | None:
        exporter = self._exporter
        if sent.accepted:
            poll_s, timeout_s = exporter.receive_poll_seconds, self._route.receive_timeout_s
        elif sent.uncertain and exporter.uncertain_probe_on_timeout:
            poll_s = exporter.uncertain_probe_poll_seconds
            timeout_s = exporter.uncertain_probe_timeout_seconds
        else:
            return None
        return await receive(
            self._route.recipient,
            self.token,
            self._key,
            self.courses.receiving,
            self._means,
            poll_s=poll_s,
            timeout_s=timeout_s,
            delete=exporter.delete_testmail_after_verify,
            sent_monotonic=sent.at_monotonic,
        )

    def _result(self, sent: Sent, found: Found | None) -> Result:
        if found is not None:
            return Result.JUNK if found.junk else Result.INBOX
        if sent.uncertain:
            return Result.UNCERTAIN
        if not sent.accepted:
            return Result.SEND_FAILED
        failure = self.courses.receiving.failure
        return Result.LOST if _was_looked_for(failure) else Result.RECEIVE_FAILED


def _was_looked_for(failure: Failure | None) -> bool:
    return failure is None or (failure.phase is Phase.FOUND and failure.error_class in _NOT_THERE)


async def earlier_mail(
    route: Route, config: Config, key: bytes, means: Means, past: Past, now_token: str
) -> list[Outcome]:
    """Return what came of earlier rounds since, and clean it up; nothing where that is not due.

    Raises:
        LegFailed: The mailbox cannot be looked into.
    """
    now = means.clock.monotonic()
    due = past.swept_at is None or now - past.swept_at >= SWEEP_EVERY_S
    if not due and not past.misses_some:
        return []
    found = await look_for_others(
        route.recipient,
        key,
        means,
        prefix=config.exporter.subject_prefix,
        route=route.name,
        skip=(now_token,),
        delete=config.exporter.delete_testmail_after_verify,
    )
    past.swept_at = now
    return list(_told(route, found, past, means.clock.now_ms()))


def _told(route: Route, found: list[Found], past: Past, now_ms: int) -> Iterator[Outcome]:
    """Yield an outcome for each mail that says something new; of unknown tokens none does."""
    for mail in found:
        before = past.tokens.get(mail.token)
        if before is None:
            continue  # of a process before this one: it may have been told, or was never sent
        result, there = before
        new = mail.copies - there
        if result not in _SEEN and new > 0:
            result, new = Result.LATE, new - 1
            took_ms = None if mail.sent_ms is None else float(now_ms - mail.sent_ms)
            yield Outcome(route, mail.token, result, now_ms, found=mail, roundtrip_ms=took_ms)
        if new > 0:
            yield Outcome(route, mail.token, Result.DUPLICATE, now_ms, found=mail)
        past.note(mail.token, result, mail)


def duplicate_of(outcome: Outcome) -> Outcome | None:
    """Return the second outcome of a round whose mail came more than once, else None."""
    if outcome.found is None or outcome.found.copies < 2:
        return None
    return Outcome(
        outcome.route, outcome.token, Result.DUPLICATE, outcome.at_ms, found=outcome.found
    )
