"""One WildDuck through its REST API: users, storage, health, and its own metrics where it has them."""

from __future__ import annotations

from typing import Final

import httpx
import msgspec

from pipeline.kit.settings_nodes import WildduckTarget
from producers.http_api import HttpApi, StatusError, decoded
from producers.sources.nodes.exposition import shown_again
from producers.sources.nodes.samples import Family, Sample

SOURCE: Final = "wildduck"
TOKEN_HEADER: Final = "X-Access-Token"  # noqa: S105  a header's name
USERS: Final = "/users"
HEALTH: Final = "/health"
METRICS: Final = "/metrics"
PAGE_USERS: Final = 250
"""The most that the API gives at once."""
PAGES_PER_POLL: Final = 40

_USERS: Final = Family("mail_wildduck_users", "Accounts.")
_HEALTHY: Final = Family(
    "mail_wildduck_healthy", "Whether WildDuck says that it reaches its database and Redis."
)
_USED: Final = Family(
    "mail_wildduck_storage_used_bytes",
    "Storage used by the accounts of mail_wildduck_storage_users, as of the last time they were added up.",
)
_ALLOWED: Final = Family(
    "mail_wildduck_storage_allowed_bytes",
    "Sum of the quotas of the accounts of mail_wildduck_storage_users.",
)
_SUMMED: Final = Family(
    "mail_wildduck_storage_users",
    "Accounts whose storage was added up: fewer than mail_wildduck_users if there are more than max_users.",
)
_BLOCKED: Final = Family(
    "mail_wildduck_users_blocked", "Accounts among those added up that are disabled or suspended."
)


class _Quota(msgspec.Struct, gc=False):
    allowed: int | float | bool | None = None
    used: int | float | None = None


class _User(msgspec.Struct, gc=False):
    quota: _Quota | None = None
    disabled: bool = False
    suspended: bool = False


class Users(msgspec.Struct, rename="camel", gc=False):
    """One page of ``/users``."""

    total: int
    results: list[_User]
    next_cursor: str | bool | None = None


class Storage(msgspec.Struct, gc=False):
    """The sums over the pages that were read so far."""

    users: int = 0
    used: float = 0
    allowed: float = 0
    blocked: int = 0

    def add(self, page: Users) -> None:
        """Add the accounts of one page."""
        for user in page.results:
            self.users += 1
            self.blocked += user.disabled or user.suspended
            if user.quota is not None:
                self.used += user.quota.used or 0
                self.allowed += user.quota.allowed or 0

    def samples(self) -> list[Sample]:
        """Return the sums as metrics."""
        return [
            _USED.sample(self.used),
            _ALLOWED.sample(self.allowed),
            _SUMMED.sample(self.users),
            _BLOCKED.sample(self.blocked),
        ]


def users_of(body: bytes) -> Users:
    """Return a page of users.

    Raises:
        TransientError: The answer has another shape.
    """
    return decoded(body, Users, USERS)


class Wildduck:
    """Asks one WildDuck."""

    source = SOURCE

    def __init__(self, target: WildduckTarget, node: str) -> None:
        """Ask *target*, which is shown as *node*.

        Raises:
            ConfigError: Its ``cafile`` cannot be used.
        """
        token = target.token
        headers = {TOKEN_HEADER: token.get_secret_value()} if token is not None else {}
        self.node = node
        self.interval_ms = target.interval
        self._api = HttpApi(target.url, headers=headers, cafile=target.cafile)
        self._storage_every_ms = target.storage_interval
        self._max_users = target.max_users
        self._storage = Storage()
        self._cursor: str | None = None
        self._summed: list[Sample] = []
        self._storage_due_ms = 0

    async def poll(self, now_ms: int) -> list[Sample]:
        """Return what it says now.

        Raises:
            TransientError: It does not answer, or not as is known.
        """
        total = users_of(await self._api.get(USERS, {"limit": "1"})).total
        found = [_USERS.sample(total), _HEALTHY.sample(await self._is_healthy())]
        page = await self._api.get_if_there(METRICS)
        if page is not None:
            found += shown_again(page.decode(errors="replace"), SOURCE, {})
        if now_ms >= self._storage_due_ms:
            await self._add_up(now_ms)
        return found + self._summed

    async def close(self) -> None:
        """Close its connections."""
        await self._api.close()

    async def _is_healthy(self) -> bool:
        try:
            await self._api.get(HEALTH)
        except StatusError as exc:
            if exc.status == httpx.codes.INTERNAL_SERVER_ERROR:
                return False
            raise
        return True

    async def _add_up(self, now_ms: int) -> None:
        """Add up some more pages; all of them take several polls where there are many."""
        for _ in range(PAGES_PER_POLL):
            params = {"limit": str(PAGE_USERS)} | ({"next": self._cursor} if self._cursor else {})
            try:
                page = users_of(await self._api.get(USERS, params))
            except StatusError as exc:
                if exc.status < httpx.codes.INTERNAL_SERVER_ERROR:
                    self._storage, self._cursor = Storage(), None  # it may be what is refused
                raise
            self._storage.add(page)
            cursor = page.next_cursor
            ended = not isinstance(cursor, str) or not page.results
            if ended or self._storage.users >= self._max_users:
                self._summed = self._storage.samples()
                self._storage, self._cursor = Storage(), None
                self._storage_due_ms = now_ms + self._storage_every_ms
                return
            self._cursor = str(cursor)
