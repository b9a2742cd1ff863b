"""Rounds of the probe without its service: one mail sent, and looked for."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, ParamSpec

import uvloop

from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import Course, Failure, Found, Sent
from producers.sources.probe.means import Means
from producers.sources.probe.message import Message, compose
from producers.sources.probe.receive import look_for_others, receive
from producers.sources.probe.send import send
from producers.sources.probe.token import new_token, probe_key
from tests.kit.processes import wait_until

P = ParamSpec("P")
PREFIX: Final = "[MAIL-E2E]"
AT_ONCE: Final = (0.0, 0.0)
"""Pauses between tries."""


@dataclass
class Leg:
    """What one leg gave."""

    token: str
    course: Course = field(default_factory=Course)
    sent: Sent | None = None
    found: Found | None = None

    @property
    def failure(self) -> Failure:
        """Return why it failed; it must have."""
        assert self.course.failure is not None
        return self.course.failure


class Legs:
    """A probe: its key, its threads, and both legs."""

    def __init__(self, means: Means, origin: str) -> None:
        self.means = means
        self.key = probe_key(b"a secret of the tests", origin)

    def message(self, sender: Account, recipient: Account, route: str = "route") -> Message:
        """Return a new mail."""
        now_ms = self.means.clock.now_ms()
        return compose(
            prefix=PREFIX,
            route=route,
            token=new_token(self.key, route, now_ms),
            sender=sender.address,
            recipient=recipient.address,
            now_ms=now_ms,
        )

    async def send(
        self,
        sender: Account,
        recipient: Account,
        *,
        route: str = "route",
        pauses_s: Sequence[float] = AT_ONCE,
    ) -> Leg:
        """Send one mail."""
        message = self.message(sender, recipient, route)
        leg = Leg(message.token)
        leg.sent = await send(sender, message, leg.course, self.means, pauses_s=pauses_s)
        return leg

    async def receive(
        self, recipient: Account, token: str, *, timeout_s: float = 30.0, delete: bool = True
    ) -> Leg:
        """Look for one mail."""
        leg = Leg(token)
        leg.found = await receive(
            recipient,
            token,
            self.key,
            leg.course,
            self.means,
            poll_s=0.2,
            timeout_s=timeout_s,
            delete=delete,
        )
        return leg

    async def round(
        self, sender: Account, recipient: Account, *, route: str = "route", timeout_s: float = 30.0
    ) -> tuple[Leg, Leg]:
        """Send one mail and look for it."""
        sent = await self.send(sender, recipient, route=route)
        assert sent.sent is not None
        assert sent.sent.accepted, sent.failure
        return sent, await self.receive(recipient, sent.token, timeout_s=timeout_s)

    async def others(
        self, account: Account, *, route: str | None = None, delete: bool = False
    ) -> list[Found]:
        """Return own mails in a mailbox."""
        return await look_for_others(
            account, self.key, self.means, prefix=PREFIX, route=route, delete=delete
        )


def in_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test that awaits, in the loop that the service has."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def until(condition: Callable[[], object], what: str = "the mail has come") -> None:
    """Wait for *condition* in a thread."""
    await asyncio.to_thread(wait_until, condition, what, within_s=30.0)


@contextmanager
def legs(origin: str = "probe-1") -> Iterator[Legs]:
    """Yield a probe's legs."""
    with ThreadPoolExecutor(8) as executor:
        yield Legs(Means(executor), origin)
