"""``MailEvent``: one thing that happened to one mail, as consumers of ``mail.events`` read it.

Field names are the contract.  Absent fields are left out of the JSON.  Units: ``*_ms`` are
milliseconds, ``size_bytes`` bytes, ``timestamp`` and ``received`` RFC 3339 in UTC with
milliseconds (``2026-01-02T03:04:05.678Z``).

``delivered``, ``bounced``, ``received``, ``expired`` and inbound ``rejected`` are one event per
recipient; ``deferred`` one per attempt and recipient; ``sent`` (accepted for sending) and
``rejected`` at submission one per message, with ``recipients``.  ``probe`` is one per outcome.
"""

from __future__ import annotations

from typing import Final

import msgspec
import xxhash

EVENT_TYPES: Final = (
    "sent",
    "delivered",
    "deferred",
    "bounced",
    "rejected",
    "received",
    "expired",
    "complained",
    "bounced_late",
    "auth_succeeded",
    "auth_failed",
    "probe",
)
"""Every ``event_type``.  The place in this tuple is its number in delta frames: only append."""

EVENT_TYPE_NUMBER: Final = {name: number for number, name in enumerate(EVENT_TYPES)}

PROBE_OUTCOMES: Final = (
    "inbox",
    "junk",
    "late",
    "duplicate",
    "lost",
    "send_failed",
    "receive_failed",
    "uncertain",
)
"""Every ``outcome`` of a probe."""

DIRECTIONS: Final = ("outbound", "inbound", "internal", "local")

RESERVED_VALUES: Final = frozenset({"_other", "_unknown"})
"""Label values that the exporter keeps for itself; refused as input."""


class MailEvent(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One enriched event (see the module's docstring for units)."""

    # what
    event_id: str | None = None
    source: str | None = None
    feed: str | None = None
    origin: str | None = None
    timestamp: str | None = None
    received: str | None = None
    event_type: str | None = None
    # direction
    direction: str | None = None
    is_dsn: bool = False
    is_probe: bool = False
    # who
    user: str | None = None
    login: str | None = None
    auth_user: str | None = None
    from_user: str | None = None
    from_domain: str | None = None
    from_address: str | None = None
    to_user: str | None = None
    to_domain: str | None = None
    to_hash: str | None = None
    sending_ip: str | None = None
    client_ip: str | None = None
    auth_method: str | None = None
    auth_result: str | None = None
    auth_scope: str | None = None
    # where
    mta_node: str | None = None
    zone: str | None = None
    mx_host: str | None = None
    mx_ip: str | None = None
    router: str | None = None
    transport: str | None = None
    message_id: str | None = None
    queue_id: str | None = None
    seq: str | None = None
    attempt: int | None = None
    # how
    response_code: int | None = None
    enhanced_status: str | None = None
    response_message: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    delivery_time_ms: int | float | None = None
    queue_time_ms: int | float | None = None
    smtp_time_ms: int | float | None = None
    size_bytes: int | None = None
    recipients: int | None = None
    spam_score: float | None = None
    # how a probe ended
    route: str | None = None
    outcome: str | None = None
    failed_phase: str | None = None
    error_class: str | None = None
    phases_ms: dict[str, float] | None = None
    folder: str | None = None
    # added
    provider: str | None = None
    bounce_class: str | None = None
    bounce_category: str | None = None
    late: bool = False


def id_hash(source: str, event_id: str) -> int:
    """Return the 64-bit xxh3 of ``source|event_id`` that the seen-set stores."""
    return xxhash.xxh3_64_intdigest(f"{source}|{event_id}".encode())


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a record or family key: xxh3-64 modulo the number of partitions.

    Every producer of this project uses it, so that copies of one event meet in one partition.
    """
    return xxhash.xxh3_64_intdigest(key) % partitions
