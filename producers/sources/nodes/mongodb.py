"""One MongoDB server: ``serverStatus``, ``replSetGetStatus``, and the depth of ZoneMTA's queue.

A server that refuses a command is not down: it may be no replica set, not yet initiated, a program
that lacks the command, or the user may lack the right.  Those are shown as states.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from pipeline.core.errors import ConfigError, TransientError
from pipeline.kit.settings_nodes import MongodbTarget
from producers.sources.nodes import zone_queue
from producers.sources.nodes.samples import COUNTER, Family, Sample

SOURCE: Final = "mongodb"
_TIMEOUT_MS: Final = 5_000
_MAX_MEMBERS: Final = 50
"""The most that a replica set may have."""
_PRIMARY: Final = 1

OK: Final = "ok"
STATES: Final = {
    76: "no_replica_set",
    94: "not_initiated",
    13: "not_authorized",
    59: "no_such_command",
}
"""What a refused command says about the server, by code."""

_COMMAND: Final = Family(
    "mail_mongodb_command_state",
    "1 for what came of a command: ok, no_replica_set (76), not_initiated (94), not_authorized (13), no_such_command (59).",
)
_WHOLE: Final[tuple[tuple[str, float, Family], ...]] = (
    ("uptime", 1, Family("mail_mongodb_uptime_seconds", "Time since the server started.")),
    ("mem.resident", 1 << 20, Family("mail_mongodb_memory_resident_bytes", "Memory in use.")),
    ("mem.virtual", 1 << 20, Family("mail_mongodb_memory_virtual_bytes", "Memory mapped.")),
    ("network.bytesIn", 1, Family("mail_mongodb_network_in_bytes", "Bytes received.", COUNTER)),
    ("network.bytesOut", 1, Family("mail_mongodb_network_out_bytes", "Bytes sent.", COUNTER)),
    ("network.numRequests", 1, Family("mail_mongodb_requests", "Requests taken.", COUNTER)),
    (
        "connections.totalCreated",
        1,
        Family("mail_mongodb_connections_created", "Connections accepted.", COUNTER),
    ),
    (
        "wiredTiger.cache.bytes currently in the cache",
        1,
        Family("mail_mongodb_cache_used_bytes", "Data in WiredTiger's cache."),
    ),
    (
        "wiredTiger.cache.maximum bytes configured",
        1,
        Family("mail_mongodb_cache_max_bytes", "Limit of WiredTiger's cache."),
    ),
    (
        "wiredTiger.cache.tracked dirty bytes in the cache",
        1,
        Family("mail_mongodb_cache_dirty_bytes", "Data in the cache that is not on disk yet."),
    ),
    (
        "extra_info.page_faults",
        1,
        Family("mail_mongodb_page_faults", "Page faults of the process.", COUNTER),
    ),
    (
        "repl.isWritablePrimary",
        1,
        Family("mail_mongodb_is_primary", "Whether the server takes writes as a primary."),
    ),
)
"""Path in ``serverStatus``, factor to the base unit, metric."""

_CONNECTIONS: Final = Family("mail_mongodb_connections", "Connections by state.")
_OPERATIONS: Final = Family("mail_mongodb_operations", "Operations by type.", COUNTER)
_REPLICATED: Final = Family(
    "mail_mongodb_replicated_operations", "Operations applied from the primary, by type.", COUNTER
)
_WAITING: Final = Family("mail_mongodb_lock_queue", "Operations that wait for the global lock.")
_DOCUMENTS: Final = Family("mail_mongodb_documents", "Documents by what was done.", COUNTER)
_ASSERTS: Final = Family("mail_mongodb_asserts", "Assertions raised by kind.", COUNTER)
_TICKETS_USED: Final = Family(
    "mail_mongodb_tickets_used", "Operations inside the storage engine, by kind."
)
_TICKETS_FREE: Final = Family(
    "mail_mongodb_tickets_available", "Operations that the storage engine would let in besides."
)
_LISTED: Final[tuple[tuple[str, Family, str, tuple[str, ...]], ...]] = (
    ("connections", _CONNECTIONS, "state", ("current", "available", "active")),
    (
        "opcounters",
        _OPERATIONS,
        "type",
        ("insert", "query", "update", "delete", "getmore", "command"),
    ),
    (
        "opcountersRepl",
        _REPLICATED,
        "type",
        ("insert", "query", "update", "delete", "getmore", "command"),
    ),
    ("globalLock.currentQueue", _WAITING, "kind", ("readers", "writers")),
    ("metrics.document", _DOCUMENTS, "action", ("deleted", "inserted", "returned", "updated")),
    ("asserts", _ASSERTS, "kind", ("regular", "warning", "msg", "user", "rollovers")),
)
"""Path in ``serverStatus``, metric, its label, and the keys that are its values."""

_HEALTH: Final = Family("mail_mongodb_member_up", "Whether this server reaches a member.")
_STATE: Final = Family("mail_mongodb_member_state", "1 for the state that a member is in.")
_LAG: Final = Family(
    "mail_mongodb_member_lag_seconds", "How far a member is behind the primary; absent without one."
)
_PING: Final = Family("mail_mongodb_member_ping_seconds", "Round trip to a member.")
_PRIMARIES: Final = Family("mail_mongodb_primaries", "Primaries that this server knows of.")


def _at(document: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a dotted *path*, or None."""
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def status_samples(status: Mapping[str, Any]) -> list[Sample]:
    """Return the numbers of ``serverStatus``; a server that knows less shows less."""
    found = []
    for path, factor, family in _WHOLE:
        value = _at(status, path)
        if isinstance(value, int | float):
            found.append(family.sample(value * factor))
    for path, family, label, keys in _LISTED:
        for key in keys:
            value = _at(status, f"{path}.{key}")
            if isinstance(value, int | float):
                found.append(family.sample(value, **{label: key}))
    return found + _ticket_samples(status)


def _ticket_samples(status: Mapping[str, Any]) -> list[Sample]:
    found = []
    for kind in ("read", "write"):
        tickets = _at(status, f"wiredTiger.concurrentTransactions.{kind}") or _at(
            status, f"queues.execution.{kind}"
        )
        for key, family in (("out", _TICKETS_USED), ("available", _TICKETS_FREE)):
            value = _at(tickets or {}, key)
            if isinstance(value, int | float):
                found.append(family.sample(value, kind=kind))
    return found


def replica_set_samples(status: Mapping[str, Any]) -> list[Sample]:
    """Return the members of ``replSetGetStatus`` and how far they are behind the primary."""
    members = [one for one in status.get("members", ()) if isinstance(one, Mapping)][:_MAX_MEMBERS]
    primaries = [one for one in members if one.get("state") == _PRIMARY]
    found = [_PRIMARIES.sample(len(primaries))]
    newest = primaries[0].get("optimeDate") if primaries else None
    for member in members:
        name, at = str(member.get("name", "")), member.get("optimeDate")
        found.append(_HEALTH.sample(bool(member.get("health")), member=name))
        state = str(member.get("stateStr", "UNKNOWN"))
        found.append(_STATE.sample(1, member=name, state=state))
        if isinstance(newest, datetime) and isinstance(at, datetime):
            lag_s = max(0.0, (newest - at).total_seconds())
            found.append(_LAG.sample(lag_s, member=name))
        ping = member.get("pingMs")
        if isinstance(ping, int | float):
            found.append(_PING.sample(ping / 1000, member=name))
    return found


def command_samples(command: str, state: str) -> list[Sample]:
    """Return what came of a command, as 1 for one state and 0 for all others."""
    return [
        _COMMAND.sample(one == state, command=command, state=one) for one in (OK, *STATES.values())
    ]


class _Asked(NamedTuple):
    """One command, and what its answer becomes."""

    command: str
    ask: Callable[[], Awaitable[Any]]
    samples: Callable[[Any], list[Sample]]


class Mongodb:
    """Asks one server."""

    source = SOURCE

    def __init__(self, target: MongodbTarget, node: str) -> None:
        """Ask *target*, which is shown as *node*.

        Raises:
            ConfigError: Its ``uri`` is no connection string.
        """
        self.node = node
        self.interval_ms = target.interval
        self._database = target.zonemta_database
        try:
            self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
                target.uri.get_secret_value(),
                appname="mailstream",
                tz_aware=True,
                connect=False,
                maxPoolSize=2,
                serverSelectionTimeoutMS=_TIMEOUT_MS,
                connectTimeoutMS=_TIMEOUT_MS,
                timeoutMS=_TIMEOUT_MS,
            )
        except (PyMongoError, ValueError) as exc:  # their text may quote the string
            raise ConfigError([f"nodes.mongodb: the uri of {node} is unusable"]) from exc

    async def poll(self, now_ms: int) -> list[Sample]:
        """Return what the server says now.

        Raises:
            TransientError: It does not answer, or refuses in a way that is no known state.
        """
        found: list[Sample] = []
        for asked in self._commands(datetime.fromtimestamp(now_ms / 1000, UTC)):
            try:
                found += asked.samples(await asked.ask())
                state = OK
            except OperationFailure as exc:
                if exc.code not in STATES:
                    raise TransientError(f"{asked.command}: refused with code {exc.code}") from exc
                state = STATES[exc.code]
            except (PyMongoError, OSError) as exc:
                # Not its text: a long description of the topology, different each time.
                raise TransientError(f"{asked.command}: {type(exc).__name__}") from exc
            found += command_samples(asked.command, state)
        return found

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    def _commands(self, now: datetime) -> list[_Asked]:
        admin = self._client.admin
        commands = [
            _Asked("serverStatus", lambda: admin.command("serverStatus"), status_samples),
            _Asked(
                "replSetGetStatus", lambda: admin.command("replSetGetStatus"), replica_set_samples
            ),
        ]
        if self._database is not None:
            commands.append(
                _Asked(
                    "aggregate",
                    lambda: self._queue(now),
                    lambda found: found,
                )
            )
        return commands

    async def _queue(self, now: datetime) -> list[Sample]:
        assert self._database is not None, "asked only where it is configured"
        collection = self._client[self._database][zone_queue.COLLECTION]
        found: list[Sample] = []
        for pipeline, samples in zone_queue.questions(now):
            async with await collection.aggregate(pipeline) as cursor:
                found += samples(await cursor.to_list())
        return found
