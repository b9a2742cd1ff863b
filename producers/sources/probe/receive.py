"""The receiving leg: looks for one mail in the folders of a mailbox until it is there."""

from __future__ import annotations

from collections.abc import Collection

from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import Course, Found
from producers.sources.probe.means import Means


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
    says which (class ``not_found`` is the former).  Never raises for what a server does.

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
    raise NotImplementedError


async def look_for_others(
    account: Account,
    key: bytes,
    means: Means,
    *,
    route: str | None = None,
    skip: Collection[str] = (),
    before_ms: int | None = None,
    delete: bool,
) -> list[Found]:
    """Return own mails other than those in *skip*: late ones, second copies, left-overs.

    Raises :class:`~producers.sources.probe.means.LegFailed` when the mailbox cannot be looked into.

    Args:
        account: Whose mailbox.
        key: The key of this probe's tokens.
        means: What legs share.
        route: Only mails of this route; None for any route of this probe (a sweep).
        skip: Tokens of rounds that go on.
        before_ms: Only mails whose round began before this time.
        delete: Delete what was found.
    """
    raise NotImplementedError
