"""Legs of a probe that answer as a test says, on its clock; and files for a probe."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.kit.clock import Clock
from producers.sources.probe.accounts import Account
from producers.sources.probe.attempt import Course, ErrorClass, Failure, Found, Phase, Sent
from producers.sources.probe.config import ProbeConfig
from producers.sources.probe.config_read import read_config
from producers.sources.probe.legs import Legs
from producers.sources.probe.means import Means
from producers.sources.probe.names import MailServers

SECRET = "app-pass-5ecret"


def tree(routes: int = 2, **exporter: Any) -> dict[str, Any]:
    """Return the content of a probe's file with this many routes, each from an account of its own."""
    accounts = {
        f"a{number}": {
            "smtp": {
                "host": "smtp.example.test",
                "username": f"p{number}@example.test",
                "password": SECRET,
            },
            "imap": {
                "host": "imap.example.test",
                "username": f"p{number}@example.test",
                "password": SECRET,
            },
        }
        for number in range(routes)
    }
    tests = [
        {"name": f"r{number}", "from": f"a{number}", "to": f"a{number}"} for number in range(routes)
    ]
    return {"exporter": exporter, "accounts": accounts, "tests": tests}


def written(path: Path, content: Mapping[str, Any], environ: Mapping[str, str] = {}) -> ProbeConfig:
    """Write a probe's file and return what it says."""
    path.write_text(json.dumps(content))
    return read_config(path, environ)


class ScriptedLegs(Legs):
    """Mails arrive after a second, unless a test says otherwise."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(b"", Means(ThreadPoolExecutor(1), clock=clock))
        self.clock = clock
        self.sends: dict[str, list[float]] = {}
        """When each route began to send."""
        self.hung: set[str] = set()
        """Routes whose server never answers."""
        self.refusing: dict[str, Failure] = {}
        self.uncertain: set[str] = set()
        self.losing: set[str] = set()
        self.copies: dict[str, int] = {}
        self.junk: set[str] = set()
        self.seen: dict[str, list[Found]] = {}
        """What ``others`` is to find, by route."""
        self.tokens: list[str] = []
        self.running = self.most_running = 0
        self.gate: asyncio.Event | None = None
        """While set and not opened, mails do not arrive."""
        self._number = itertools.count()

    def token(self, route: str, now_ms: int) -> str:
        token = f"{route}-{next(self._number)}"
        self.tokens.append(token)
        return token

    async def send(
        self,
        sender: Account,
        recipient: Account,
        route: str,
        token: str,
        prefix: str,
        course: Course,
    ) -> Sent:
        self.sends.setdefault(route, []).append(self.clock.monotonic())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if route in self.hung:
                await asyncio.Event().wait()
            await self.clock.sleep(0.5)
        finally:
            self.running -= 1
        course.phases_ms |= {Phase.DNS: 1.0, Phase.CONNECT: 2.0, Phase.DATA: 3.0}
        course.certificate_days["smtp"] = 30.0
        now_ms, now = self.clock.now_ms(), self.clock.monotonic()
        if route in self.refusing:
            course.failure = self.refusing[route]
            return Sent(accepted=False, code=course.failure.smtp_code, reply=course.failure.text)
        if route in self.uncertain:
            course.failure = Failure(Phase.DATA, ErrorClass.DROPPED, "the connection was closed")
            return Sent(accepted=False, uncertain=True, at_ms=now_ms, at_monotonic=now)
        return Sent(accepted=True, at_ms=now_ms, at_monotonic=now, code=250, reply="250 2.0.0 ok")

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
        route = token.rpartition("-")[0]
        if self.gate is not None:
            await self.gate.wait()
        if route in self.losing | self.uncertain:
            await self.clock.sleep(timeout_s)
            course.failure = Failure(Phase.FOUND, ErrorClass.NOT_FOUND, "the mail did not arrive")
            return None
        await self.clock.sleep(1.0)
        course.phases_ms |= {Phase.IMAP_DNS: 1.0, Phase.FOUND: 1000.0, Phase.VERIFY: 5.0}
        return self.found(token, junk=route in self.junk, copies=self.copies.get(route, 1))

    def found(self, token: str, *, junk: bool = False, copies: int = 1, age_ms: int = 0) -> Found:
        """Return a mail that is seen now and was sent *age_ms* ago."""
        now_ms = self.clock.now_ms()
        folder = "Junk" if junk else "INBOX"
        return Found(
            token, folder, junk, copies, now_ms, internal_date_ms=now_ms, sent_ms=now_ms - age_ms
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
        seen = [one for one in self.seen.get(route, []) if one.token not in skip]
        if delete:
            self.seen[route] = []
        return seen

    async def sweep(self, recipient: Account, *, prefix: str, before_ms: int) -> list[Found]:
        return []

    async def mail_servers(self, domain: str) -> MailServers:
        return MailServers(("mx.example.test",), 2.0)
