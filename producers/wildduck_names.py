"""Names of WildDuck's accounts by their ids, asked of its REST API and remembered.

Asking for a name never waits: an id that is not known yet is put on a bounded list of questions,
and messages that come later will have its name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import httpx
from prometheus_client import CollectorRegistry, Counter

from pipeline.core.gelf import is_account_id
from pipeline.kit.clock import Clock
from pipeline.kit.settings_gelf import WildDuckUsers

log = logging.getLogger(__name__)

MOST_NAMES: Final = 100_000
MOST_QUESTIONS: Final = 1000
TOKEN_HEADER: Final = "X-Access-Token"  # noqa: S105  the header's name
_AT_ONCE: Final = 4
_ANSWER_S: Final = 5.0
_FORGET_FAILURE_S: Final = 30.0
_LONGEST_NAME: Final = 320


class Lookup(StrEnum):
    """How a question ended; becomes the metric label ``result``."""

    FOUND = "found"
    MISSING = "missing"
    """There is no such account."""
    FAILED = "failed"
    """The API did not answer, or not with an account."""
    OVERFLOW = "overflow"
    """Too many questions wait already."""


@dataclass(frozen=True, slots=True)
class _Known:
    name: str | None
    until: float
    """Seconds on the monotonic clock."""


class UserNames:
    """A part of a producer's process that knows accounts by name."""

    name = "wildduck users"

    def __init__(self, settings: WildDuckUsers, registry: CollectorRegistry, clock: Clock) -> None:
        """Ask the API of *settings*, whose ``url`` must be set."""
        assert settings.url is not None, "made only where there is an API to ask"
        token = settings.token.get_secret_value() if settings.token is not None else None
        self._headers: Mapping[str, str] = {} if token is None else {TOKEN_HEADER: token}
        self._url = settings.url
        self._remember_s = settings.remember / 1000
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asked: set[str] = set()
        self._questions: asyncio.Queue[str] = asyncio.Queue(MOST_QUESTIONS)
        counter = Counter(
            "mailstream_wildduck_lookups_total",
            "Questions for the name of an account, by result.",
            ["result"],
            registry=registry,
        )
        self._count = {result: counter.labels(result.value) for result in Lookup}

    def name_of(self, account_id: str) -> str | None:
        """Return the name of an account if it is known now; else ask for it."""
        known = self._known.get(account_id)
        if known is None or known.until < self._clock.monotonic():
            self._ask(account_id)
        return None if known is None else known.name

    async def start(self) -> None:
        """Begin with nothing known."""

    async def run(self) -> None:
        """Ask until cancelled."""
        async with (
            httpx.AsyncClient(headers=self._headers, timeout=_ANSWER_S, trust_env=False) as client,
            asyncio.TaskGroup() as askers,
        ):
            for _ in range(_AT_ONCE):
                askers.create_task(self._answer(client))

    async def stop(self) -> None:
        """Do nothing: what is remembered is worth nothing to others."""

    def _ask(self, account_id: str) -> None:
        if account_id in self._asked or not is_account_id(account_id):
            return
        try:
            self._questions.put_nowait(account_id)
        except asyncio.QueueFull:
            self._count[Lookup.OVERFLOW].inc()
        else:
            self._asked.add(account_id)

    async def _answer(self, client: httpx.AsyncClient) -> None:
        while True:
            account_id = await self._questions.get()
            result, name = await self._look_up(client, account_id)
            self._count[result].inc()
            self._asked.discard(account_id)
            self._remember(account_id, result, name)

    async def _look_up(
        self, client: httpx.AsyncClient, account_id: str
    ) -> tuple[Lookup, str | None]:
        try:
            answer = await client.get(f"{self._url}/users/{account_id}")
            fields: Any = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            log.warning("WildDuck does not answer", extra={"error": type(exc).__name__})
            return Lookup.FAILED, None
        if answer.status_code == httpx.codes.NOT_FOUND:
            return Lookup.MISSING, None
        name = fields.get("username") if isinstance(fields, dict) else None
        if not answer.is_success or not isinstance(name, str) or not 0 < len(name) < _LONGEST_NAME:
            log.warning("WildDuck names no account", extra={"status": answer.status_code})
            return Lookup.FAILED, None
        return Lookup.FOUND, name

    def _remember(self, account_id: str, result: Lookup, name: str | None) -> None:
        known = self._known.pop(account_id, None)
        failed = result is Lookup.FAILED
        if failed and known is not None:
            name = known.name  # an old name is better than none
        for_s = _FORGET_FAILURE_S if failed else self._remember_s
        self._known[account_id] = _Known(name, self._clock.monotonic() + for_s)
        if len(self._known) > MOST_NAMES:
            del self._known[next(iter(self._known))]
