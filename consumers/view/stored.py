"""Closed panes out of PostgreSQL, asked with few connections, little time, and no hurry to others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import orjson
import psycopg
from pydantic import SecretStr

from consumers.postgres.connection import Connection, checked, connect, mapped_errors, one
from consumers.view.answers import RefusedError
from pipeline.core.errors import TransientError
from pipeline.core.timestamp import rfc3339

MOST: Final = 2
"""Questions at a time; others wait their turn."""
ANSWER_S: Final = 8.0
"""In all: waiting for a turn, connecting, and the answer."""
STATEMENT: Final = "6s"

_OLDEST: Final = """
SELECT (extract(epoch FROM min(time)) * 1000)::bigint FROM panes
WHERE family = %s AND length_s = %s"""
_COUNTS: Final = """
SELECT floor(extract(epoch FROM time) * 1000 / %(step)s)::bigint * %(step)s AS bucket,
    event_type, least(sum(count), 9007199254740991)::bigint
FROM panes
WHERE family = %(family)s AND length_s = %(length)s AND time >= %(first)s AND time < %(end)s"""
_OF_KEY: Final = " AND md5(key::text) = md5(%(key)s::jsonb::text) AND key = %(key)s::jsonb"
_GROUPED: Final = " GROUP BY bucket, event_type"

_T = TypeVar("_T")
Counts = dict[int, dict[str, int]]
"""Events by type, by the start of a step in ms."""


class Stored:
    """Reads ``panes``, as the sink wrote them."""

    def __init__(self, dsn: SecretStr) -> None:
        """Connect when first asked.

        Raises:
            ConfigError: *dsn* is no connection string.
        """
        self._dsn = checked(dsn, "sinks.postgres.dsn")
        self._turns = asyncio.Semaphore(MOST)
        self._idle: list[Connection] = []
        self._asking: set[asyncio.Task[object]] = set()

    async def close(self) -> None:
        """Close the connections, and give up what is not answered yet."""
        for task in self._asking:
            task.cancel()
        while self._idle:
            await self._idle.pop().close()

    async def oldest_ms(self, family: str, length_ms: int) -> int | None:
        """Return the start of the oldest pane of a family; None: there is none.

        Raises:
            RefusedError: PostgreSQL is away or too slow.
        """

        async def ask(connection: Connection) -> int | None:
            found: int | None = await one(connection, _OLDEST, [family, length_ms // 1000])
            return found

        return await self._asked(ask)

    async def counts(
        self,
        family: str,
        key: Sequence[str],
        length_ms: int,
        span: tuple[int, int],
        step_ms: int,
    ) -> Counts:
        """Return events by type of a key, or of all if it is empty, in [first, end) by step.

        Raises:
            RefusedError: PostgreSQL is away or too slow.
        """
        first_ms, end_ms = span
        given = {
            "family": family,
            "length": length_ms // 1000,
            "step": step_ms,
            "first": rfc3339(first_ms),
            "end": rfc3339(end_ms),
            "key": orjson.dumps(list(key)).decode(),
        }
        query = _COUNTS + (_OF_KEY if key else "") + _GROUPED

        async def ask(connection: Connection) -> Counts:
            found: Counts = {}
            cursor = await connection.execute(query.encode(), given)
            for bucket, event_type, count in await cursor.fetchall():
                found.setdefault(bucket, {})[event_type] = count
            return found

        return await self._asked(ask)

    async def _asked(self, ask: Callable[[Connection], Awaitable[_T]]) -> _T:
        task = asyncio.ensure_future(self._ask(ask))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        # A server that is frozen does not even answer that a question is withdrawn.
        done, _ = await asyncio.wait({task}, timeout=ANSWER_S)
        if not done:
            task.cancel()
            raise _away(f"no answer in {ANSWER_S:.0f} s")
        try:
            return task.result()
        except TransientError as exc:
            raise _away(str(exc)) from exc

    async def _ask(self, ask: Callable[[Connection], Awaitable[_T]]) -> _T:
        async with self._turns, mapped_errors():
            # One that waited idle may be of a server that was started again since.
            kept = self._idle.pop() if self._idle else None
            if kept is not None:
                try:
                    return await self._with(kept, ask)
                except psycopg.errors.QueryCanceled:
                    raise
                except (psycopg.OperationalError, OSError):
                    pass  # its server is gone; there may be another
            made = await connect(self._dsn, "mailstream-view", statement_timeout=STATEMENT)
            return await self._with(made, ask)

    async def _with(self, connection: Connection, ask: Callable[[Connection], Awaitable[_T]]) -> _T:
        try:
            found = await ask(connection)
        except BaseException:
            await connection.close()
            raise
        self._idle.append(connection)
        return found


def _away(why: str) -> RefusedError:
    return RefusedError(503, "store_unavailable", f"The older part is not to be had now: {why}")
