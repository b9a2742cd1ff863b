"""``emailtrack_user_stats``: what each account sent today, as WHM counts it.  Pure.

Field names are in upper case here, other than in every other answer of WHM.  The figures are those
of the window asked for, so they fall to zero when the day begins: gauges, never for ``rate()``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from pipeline.core.loose import real, text
from producers.privacy import Privacy
from producers.sources.cpanel.rows import is_pseudo_user

FUNCTION: Final = "emailtrack_user_stats"

STAT_TYPES: Final = {
    "send_count": "SENDCOUNT",
    "success_count": "SUCCESSCOUNT",
    "fail_count": "FAILCOUNT",
    "defer_count": "DEFERCOUNT",
    "defer_fail_count": "DEFERFAILCOUNT",
    "total_size": "TOTALSIZE",
}
FLAGS: Final = {
    "reached_maxemails": "REACHED_MAXEMAILS",
    "reached_maxdeferfail": "REACHED_MAXDEFERFAIL",
}


class Account(NamedTuple):
    """What one record is about."""

    domain: str
    user: str
    primary_domain: str
    owner: str


@dataclass(slots=True)
class UserStats:
    """One answer of one server."""

    window_start_s: int
    counts: dict[Account, dict[str, float]] = field(default_factory=dict)
    """Per account the value of each stat type."""
    flags: dict[Account, dict[str, bool]] = field(default_factory=dict)
    omitted: int = 0
    """Records beyond the limit, and those that were no objects."""


def parameters_of(start_s: int, end_s: int) -> dict[str, str | int]:
    """Return the parameters that ask for ``[start_s, end_s)``."""
    return {"starttime": start_s, "endtime": end_s}


def midnight_s(now_s: int, timezone: str) -> int:
    """Return when the day of *now_s* began in *timezone*, seconds since the epoch."""
    local = datetime.fromtimestamp(now_s, ZoneInfo(timezone))
    return int(local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).timestamp())


def read_stats(
    records: Iterable[object], window_start_s: int, privacy: Privacy, max_users: int
) -> UserStats:
    """Return the figures of *records*; those of equal labels are added up."""
    stats = UserStats(window_start_s)
    for record in records:
        account = _account(record, privacy) if isinstance(record, dict) else None
        if account is None or (account not in stats.counts and len(stats.counts) >= max_users):
            stats.omitted += 1
            continue
        fields: Mapping[str, Any] = record if isinstance(record, dict) else {}
        counts = stats.counts.setdefault(account, dict.fromkeys(STAT_TYPES, 0.0))
        flags = stats.flags.setdefault(account, dict.fromkeys(FLAGS, False))
        for name, key in STAT_TYPES.items():
            counts[name] += real(fields.get(key)) or 0.0
        for name, key in FLAGS.items():
            flags[name] |= bool(real(fields.get(key)))
    return stats


def _account(fields: Mapping[str, Any], privacy: Privacy) -> Account:
    user = text(fields.get("USER"))
    if user and not is_pseudo_user(user):
        user = privacy.sender(user)
    names = (text(fields.get(name)) for name in ("DOMAIN", "PRIMARY_DOMAIN", "OWNER"))
    domain, primary_domain, owner = names
    return Account(domain, user, primary_domain, owner)
