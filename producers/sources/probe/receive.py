"""The receiving leg: looks for one mail in the folders of a mailbox until it is there.

Waiting takes no thread: the server tells (IDLE), or the folders are looked through again after a
while that grows up to the interval of polling.  A connection that breaks is made anew as long as
there is time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import Course, ErrorClass, Failure, Found, Phase
from producers.sources.probe.box import Box, Mail
from producers.sources.probe.mailbox import Mailbox
from producers.sources.probe.means import LegFailed, Means, tell
from producers.sources.probe.token import Token

_FIRST_POLL_S: Final = 0.2
_REST_S: Final = 0.1
"""After news that brought nothing of ours: a busy mailbox must not keep us searching."""
_AGAIN_S: Final = 2.0
"""Before a broken connection is made anew."""


async def receive(
    account: Account,
    token: str,
    key: bytes,
    course: Course,
    means: Means,
    *,
    poll_s: float,
    timeout_s: float,
    delete: bool,
    sent_monotonic: float | None = None,
) -> Found | None:
    """Wait until the mail with *token* is in the mailbox of *account*.

    Returns None when it is not there within *timeout_s* or cannot be looked for; ``course.failure``
    says which (class ``not_found`` or ``quota`` in the phase ``found`` is the former).  Never raises
    for what a server or a network does.

    Args:
        account: Whose mailbox.
        token: Of the mail that is wanted.
        key: The key of this probe's tokens.
        course: Filled as the leg goes on.
        means: What legs share.
        poll_s: How often to look where the server does not tell by itself.
        timeout_s: How long to look, from now.
        delete: Delete the mail (and its copies) once it proved to be ours.
        sent_monotonic: When DATA ended (``Sent.at_monotonic``): the phase ``found`` begins there.
    """
    if account.imap is None:
        text = f"account {account.name} has no imap section"
        _end(course, Failure(Phase.IMAP_CONNECT, ErrorClass.CONFIG, text))
        return None
    begun = means.clock.monotonic()
    search = _Search(token, course, means, begun if sent_monotonic is None else sent_monotonic)
    search.deadline, search.poll_s, search.delete = begun + timeout_s, poll_s, delete
    try:
        # What begins in time may end a little later, but that, too, has its end.
        async with asyncio.timeout(timeout_s + account.imap.timeout_s):
            return await search.run(account, key)
    except TimeoutError:
        where = f"{account.imap.host}:{account.imap.port}"
        text = f"{where} did not answer within {timeout_s:g} s"
        _end(course, Failure(course.running or Phase.FOUND, ErrorClass.TIMEOUT, text))
        return None


async def look_for_others(
    account: Account,
    key: bytes,
    means: Means,
    *,
    prefix: str,
    route: str | None = None,
    skip: Collection[str] = (),
    before_ms: int | None = None,
    delete: bool,
) -> list[Found]:
    """Return own mails other than those in *skip*: late ones, second copies, left-overs.

    Several copies of a mail in one folder are one item; its ``copies`` says how many.

    Args:
        account: Whose mailbox.
        key: The key of this probe's tokens.
        means: What legs share.
        prefix: What subjects of probes begin with.
        route: Only mails of this route; None for any route of this probe (a sweep).
        skip: Tokens of rounds that go on.
        before_ms: Only mails whose round began before this time.
        delete: Delete what was found.

    Raises:
        LegFailed: The mailbox cannot be looked into.
    """

    def wanted(token: Token) -> bool:
        of_route = route is None or token.is_of(route)
        old = before_ms is None or token.sent_ms < before_ms
        return of_route and old and token.text not in skip

    def look(box: Box) -> tuple[list[Mail], tuple[str, ...]]:
        mails = box.own(prefix, wanted)
        if delete and mails:
            box.delete(mails)
        return mails, box.places.junk

    async with Mailbox(account, key, Course(), means) as mailbox:
        mails, junk = await mailbox.do(Phase.VERIFY, look)
    groups: dict[tuple[str, str], list[Mail]] = {}
    for mail in mails:
        groups.setdefault((mail.token.text, mail.folder), []).append(mail)
    now_ms = means.clock.now_ms()
    return [_found(group, len(group), junk, now_ms, deleted=delete) for group in groups.values()]


async def sweep(
    account: Account, key: bytes, means: Means, *, prefix: str, before_ms: int
) -> list[Found]:
    """Delete own mails of rounds that began before *before_ms*, of whatever route."""
    return await look_for_others(
        account, key, means, prefix=prefix, before_ms=before_ms, delete=True
    )


class _Search:
    """One mail that is looked for."""

    deadline: float
    poll_s: float
    delete: bool

    def __init__(self, token: str, course: Course, means: Means, sent: float) -> None:
        self._token, self._course, self._means, self._sent = token, course, means, sent

    async def run(self, account: Account, key: bytes) -> Found | None:
        """Look until it is found, the time is up, or looking is of no use."""
        clock = self._means.clock
        while True:
            try:
                async with Mailbox(account, key, self._course, self._means) as mailbox:
                    return await self._watch(mailbox)
            except LegFailed as failed:
                left = self.deadline - clock.monotonic()
                if not failed.again or left <= 0:
                    _end(self._course, failed.failure)
                    return None
                self._course.earlier.append(failed.failure)
                tell(self._course)
            await clock.sleep(min(_AGAIN_S, left))

    async def _watch(self, mailbox: Mailbox) -> Found | None:
        clock, course = self._means.clock, self._course
        course.running = Phase.FOUND
        tell(course)
        wait_s = min(_FIRST_POLL_S, self.poll_s)
        while True:
            left = self.deadline - clock.monotonic()
            last = left <= 0
            mails = await mailbox.do(Phase.FOUND, self._look_again if last else self._look)
            if mails:
                return await self._verified(mailbox, mails)
            if last:
                await self._nothing(mailbox)
                return None
            await mailbox.news(min(wait_s, left))
            await clock.sleep(min(_REST_S, self.poll_s))
            wait_s = min(wait_s * 2, self.poll_s)

    def _look(self, box: Box) -> list[Mail]:
        return box.find(self._token)

    def _look_again(self, box: Box) -> list[Mail]:
        return box.find(self._token, thorough=True)

    async def _verified(self, mailbox: Mailbox, mails: list[Mail]) -> Found:
        """Count the copies and delete them; the mail is found, whatever becomes of that."""
        clock, course = self._means.clock, self._course
        seen, seen_ms = clock.monotonic(), clock.now_ms()
        course.phases_ms[Phase.FOUND] = (seen - self._sent) * 1000
        course.running = Phase.VERIFY
        tell(course)
        copies, deleted = mails, False
        junk: tuple[str, ...] = ()

        def step(box: Box) -> None:
            nonlocal copies, junk, deleted
            junk = box.places.junk
            copies = box.copies(self._token, mails)
            if self.delete:
                box.delete(copies)
                deleted = True

        try:
            await mailbox.do(Phase.VERIFY, step)
        except LegFailed as failed:
            course.earlier.append(failed.failure)
        course.phases_ms[Phase.VERIFY] = (clock.monotonic() - seen) * 1000
        course.running = None
        tell(course)
        return _found(copies, len(copies), junk, seen_ms, deleted=deleted)

    async def _nothing(self, mailbox: Mailbox) -> None:
        self._course.phases_ms[Phase.FOUND] = (self._means.clock.monotonic() - self._sent) * 1000
        full = await mailbox.do(Phase.FOUND, Box.full)
        if full:
            text = f"the mail did not arrive, and the mailbox is full ({full})"
            _end(self._course, Failure(Phase.FOUND, ErrorClass.QUOTA, text))
        else:
            text = "the mail did not arrive in time in any folder that was looked into"
            _end(self._course, Failure(Phase.FOUND, ErrorClass.NOT_FOUND, text))


def _end(course: Course, failure: Failure) -> None:
    course.failure, course.running = failure, None
    tell(course)


def _found(
    mails: list[Mail], copies: int, junk: tuple[str, ...], now_ms: int, *, deleted: bool
) -> Found:
    first = mails[0]
    return Found(
        token=first.token.text,
        folder=first.folder,
        junk=first.folder in junk,
        copies=copies,
        first_seen_ms=now_ms,
        internal_date_ms=first.internal_date_ms,
        hops_ms=first.hops_ms,
        sent_ms=first.token.sent_ms,
        deleted=deleted,
    )
