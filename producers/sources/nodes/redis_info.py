"""One Redis server, by its command ``INFO``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pipeline.core.errors import TransientError
from pipeline.kit.settings_nodes import RedisTarget
from producers.sources.nodes.samples import COUNTER, Family, Sample, present

SOURCE: Final = "redis"
_TIMEOUT_S: Final = 8.0
_MAX_DATABASES: Final = 64

_NUMBERS: Final = {
    "uptime_in_seconds": Family("mail_redis_uptime_seconds", "Time since the server started."),
    "connected_clients": Family("mail_redis_connected_clients", "Client connections."),
    "blocked_clients": Family(
        "mail_redis_blocked_clients", "Clients that wait in a blocking command."
    ),
    "used_memory": Family("mail_redis_memory_used_bytes", "Memory that the data takes."),
    "used_memory_rss": Family("mail_redis_memory_resident_bytes", "Memory that the process takes."),
    "maxmemory": Family("mail_redis_memory_max_bytes", "Limit of the memory; 0: none."),
    "mem_fragmentation_ratio": Family(
        "mail_redis_memory_fragmentation_ratio",
        "Resident by used memory; says nothing while little is used.",
    ),
    "evicted_keys": Family(
        "mail_redis_evicted_keys", "Keys that were dropped for want of memory.", COUNTER
    ),
    "expired_keys": Family("mail_redis_expired_keys", "Keys that ran out.", COUNTER),
    "keyspace_hits": Family("mail_redis_keyspace_hits", "Look-ups that found a key.", COUNTER),
    "keyspace_misses": Family("mail_redis_keyspace_misses", "Look-ups that found none.", COUNTER),
    "total_commands_processed": Family(
        "mail_redis_commands", "Commands that were processed.", COUNTER
    ),
    "total_connections_received": Family(
        "mail_redis_connections", "Connections that were accepted.", COUNTER
    ),
    "rejected_connections": Family(
        "mail_redis_rejected_connections", "Connections refused for want of room.", COUNTER
    ),
    "instantaneous_ops_per_sec": Family(
        "mail_redis_commands_per_second", "Commands per second, as the server reckons it."
    ),
    "connected_slaves": Family("mail_redis_connected_replicas", "Replicas that are connected."),
    "master_repl_offset": Family(
        "mail_redis_replication_offset_bytes", "How far the replication stream has come."
    ),
    "rdb_last_save_time": Family(
        "mail_redis_last_save_timestamp_seconds",
        "When the data was last saved, seconds since the epoch.",
    ),
    "rdb_changes_since_last_save": Family(
        "mail_redis_unsaved_changes", "Changes since the data was last saved."
    ),
    "aof_enabled": Family("mail_redis_append_only", "Whether the append-only file is on."),
    "loading": Family("mail_redis_loading", "Whether the server still loads its data."),
}
_MASTER: Final = Family("mail_redis_is_master", "Whether the server is a master.")
_LINK: Final = Family(
    "mail_redis_master_link_up", "Whether a replica's link to its master is up; replicas only."
)
_SAVED: Final = Family("mail_redis_last_save_ok", "Whether the last save of the data went well.")
_KEYS: Final = Family("mail_redis_keys", "Keys by database.")
_EXPIRING: Final = Family("mail_redis_expiring_keys", "Keys that will run out, by database.")


def info_samples(info: Mapping[str, Any]) -> list[Sample]:
    """Return the numbers of an answer to ``INFO``, as the client library decodes it."""
    found = present(_NUMBERS, info)
    for key, family, good in (
        ("role", _MASTER, "master"),
        ("master_link_status", _LINK, "up"),
        ("rdb_last_bgsave_status", _SAVED, "ok"),
    ):
        if key in info:
            found.append(family.sample(info[key] == good))
    databases = [
        (key, value) for key, value in info.items() if _is_database(key) and isinstance(value, dict)
    ]
    for key, value in databases[:_MAX_DATABASES]:
        found.append(_KEYS.sample(value.get("keys", 0), db=key[2:]))
        found.append(_EXPIRING.sample(value.get("expires", 0), db=key[2:]))
    return found


def _is_database(key: str) -> bool:
    return key.startswith("db") and key[2:].isdecimal()


class RedisServer:
    """Asks one server."""

    source = SOURCE

    def __init__(self, target: RedisTarget, node: str) -> None:
        """Ask *target*, which is shown as *node*."""
        self.node = node
        self.interval_ms = target.interval
        password = target.password
        self._redis = Redis(
            host=target.address.host,
            port=target.address.port,
            username=target.username,
            password=password.get_secret_value() if password is not None else None,
            ssl=target.tls,
            ssl_ca_certs=str(target.cafile) if target.cafile is not None else None,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )

    async def poll(self, now_ms: int) -> list[Sample]:  # noqa: ARG002  what every target takes
        """Return what the server says now.

        Raises:
            TransientError: It does not answer, or refuses.
        """
        try:
            return info_samples(await self._redis.info())
        except (RedisError, OSError, TimeoutError) as exc:
            raise TransientError(f"INFO: {type(exc).__name__}: {exc}") from exc

    async def close(self) -> None:
        """Close its connections."""
        await self._redis.aclose()
