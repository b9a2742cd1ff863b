"""The sending leg: one mail by SMTP, each phase timed and its failure named.

A mail is given up to three times when the server asks to come again or does not answer, but never
again once its last byte is out: then it may have been taken, and a second one would be a duplicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import Course, ErrorClass, Failure, Phase, Sent
from producers.sources.probe.means import LegFailed, Means, one_line, tell
from producers.sources.probe.message import Message
from producers.sources.probe.smtp_failures import enhanced_status, secrets_of
from producers.sources.probe.smtp_session import SmtpSession

PAUSES_S: Final = (1.0, 3.0)
"""Before the second and the third try."""


async def send(
    account: Account,
    message: Message,
    course: Course,
    means: Means,
    *,
    pauses_s: Sequence[float] = PAUSES_S,
) -> Sent:
    """Send *message* as *account*; never raises for what a server or a network does.

    Args:
        account: Who sends.
        message: What.
        course: Filled as the leg goes on.
        means: What legs share.
        pauses_s: The waits between tries; one try more than there are waits.
    """
    if account.smtp is None:
        text = f"account {account.name} has no smtp section"
        course.failure = Failure(Phase.CONNECT, ErrorClass.CONFIG, text)
        tell(course)
        return Sent(accepted=False)
    for tries, pause_s in enumerate([*pauses_s, None], start=1):
        try:
            return await _try(account, message, course, means, tries)
        except LegFailed as failed:
            if pause_s is None or not failed.again or failed.uncertain:
                return _not_sent(failed, course, means, tries)
            course.earlier.append(failed.failure)
        tell(course)
        await means.clock.sleep(pause_s)
        course.phases_ms.clear()
    raise AssertionError("the last try returns")


async def _try(
    account: Account, message: Message, course: Course, means: Means, tries: int
) -> Sent:
    assert account.smtp is not None
    async with SmtpSession(account, course, means) as session:
        await session.open()
        reply = await session.give(message)
        return Sent(
            accepted=True,
            at_ms=means.clock.now_ms(),
            tries=tries,
            at_monotonic=means.clock.monotonic(),
            code=reply.code,
            enhanced_status=enhanced_status(reply.message),
            reply=one_line(reply.message, secrets_of(account.smtp)),
        )


def _not_sent(failed: LegFailed, course: Course, means: Means, tries: int) -> Sent:
    course.failure = failed.failure
    tell(course)
    return Sent(
        accepted=False,
        uncertain=failed.uncertain,
        at_ms=means.clock.now_ms() if failed.uncertain else None,
        tries=tries,
        at_monotonic=means.clock.monotonic() if failed.uncertain else None,
        code=failed.failure.smtp_code,
        enhanced_status=failed.failure.enhanced_status,
        reply=failed.failure.text if failed.failure.smtp_code else None,
    )
