"""The two legs of a round, over SMTP and IMAP, bound to the key of one probe."""

from __future__ import annotations

from collections.abc import Collection

from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import Course, Found, Sent
from producers.sources.probe.means import Means
from producers.sources.probe.message import compose
from producers.sources.probe.names import MailServers
from producers.sources.probe.receive import look_for_others, receive, sweep
from producers.sources.probe.send import send
from producers.sources.probe.token import new_token


class Legs:
    """Sending, receiving, and what else a round asks for; only ``others`` and ``sweep`` raise."""

    def __init__(self, key: bytes, means: Means) -> None:
        """Make and know tokens by *key*."""
        self._key = key
        self._means = means

    def token(self, route: str, now_ms: int) -> str:
        """Return a new token."""
        return new_token(self._key, route, now_ms)

    async def send(
        self,
        sender: Account,
        recipient: Account,
        route: str,
        token: str,
        prefix: str,
        course: Course,
    ) -> Sent:
        """Send one mail."""
        message = compose(
            prefix=prefix,
            route=route,
            token=token,
            sender=sender.address,
            recipient=recipient.address,
            now_ms=self._means.clock.now_ms(),
        )
        return await send(sender, message, course, self._means)

    async def receive(
        self,
        recipient: Account,
        token: str,
        course: Course,
        *,
        poll_s: float,
        timeout_s: float,
        delete: bool,
        sent_monotonic: float | None,
    ) -> Found | None:
        """Wait for one mail."""
        return await receive(
            recipient,
            token,
            self._key,
            course,
            self._means,
            poll_s=poll_s,
            timeout_s=timeout_s,
            delete=delete,
            sent_monotonic=sent_monotonic,
        )

    async def others(
        self,
        recipient: Account,
        *,
        prefix: str,
        route: str,
        skip: Collection[str],
        before_ms: int,
        delete: bool,
    ) -> list[Found]:
        """Return (and delete) other mails of the route; raises ``LegFailed``."""
        return await look_for_others(
            recipient,
            self._key,
            self._means,
            prefix=prefix,
            route=route,
            skip=skip,
            before_ms=before_ms,
            delete=delete,
        )

    async def sweep(self, recipient: Account, *, prefix: str, before_ms: int) -> list[Found]:
        """Delete mails of this probe that are old, of any route; raises ``LegFailed``."""
        return await sweep(recipient, self._key, self._means, prefix=prefix, before_ms=before_ms)

    async def mail_servers(self, domain: str) -> MailServers:
        """Return the mail exchangers of a domain."""
        return await self._means.names.mail_servers(domain)
