"""The part of WHM API 1 that a poller asks, over a simulated mail log.  Pure.

``emailtrack_search``: the outcomes wanted, filters and sorting by the two times, chunks, and no more rows of
a type than asked for.  ``emailtrack_user_stats``: what each account sent on the
day (UTC) of the newest row, whatever time is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from mailstream.simulation.hosting import Row

SEARCH: Final = "emailtrack_search"
STATS: Final = "emailtrack_user_stats"

KEPT_S: Final = 1200
"""How long rows stay in the log; real servers keep days."""
MOST_ROWS: Final = 60_000
MAX_EMAILS: Final = 500
"""Messages per day after which ``REACHED_MAXEMAILS`` tells when."""

_DAY_S: Final = 86_400
_TIMES: Final = ("actionunixtime", "sendunixtime")
_COUNTS: Final = {"success": "SUCCESSCOUNT", "defer": "DEFERCOUNT", "failure": "FAILCOUNT"}
_REMOTE: Final = "-remote-"


class _Kept(NamedTuple):
    kind: str
    action_s: int
    send_s: int
    text: bytes
    """The row as JSON: it is asked for many times."""


class MailLog:
    """The log of one server, and its answers."""

    def __init__(self, rows: Iterator[Row]) -> None:
        """Write *rows*, ordered by ``actionunixtime``, into the log as time passes."""
        self._rows = rows
        self._next: Row | None = next(rows, None)
        self._log: list[_Kept] = []
        self._day = 0
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._reached: dict[tuple[str, str], int] = {}

    def answer(self, function: str, parameters: Mapping[str, str], now_ms: int) -> bytes:
        """Return the answer to one call, as JSON."""
        self._write(now_ms // 1000)
        try:
            if function == SEARCH:
                return self._search(parameters)
        except ValueError:  # a number that is none, a chunk of nothing
            return _refused(function, "Invalid parameter.")
        if function == STATS:
            return orjson.dumps({"metadata": _metadata(STATS), "data": {"records": self._stats()}})
        return _refused(function, f"Unknown app ({function}) requested for this version.")

    def _write(self, now_s: int) -> None:
        while self._next is not None and self._next["actionunixtime"] <= now_s:
            row = self._next
            kept = _Kept(row["type"], row["actionunixtime"], row["sendunixtime"], orjson.dumps(row))
            self._log.append(kept)
            self._count(row)
            self._next = next(self._rows, None)
        old = bisect_left(self._log, now_s - KEPT_S, key=lambda kept: kept.action_s)
        del self._log[: max(old, len(self._log) - MOST_ROWS)]

    def _count(self, row: Row) -> None:
        day = row["actionunixtime"] // _DAY_S
        if day != self._day:
            self._day = day
            self._counts.clear()
            self._reached.clear()
        if row["user"] == _REMOTE:
            return
        counts = self._counts.setdefault((row["user"], row["domain"]), Counter())
        counts[_COUNTS[row["type"]]] += 1
        counts["SENDCOUNT"] += row["type"] != "defer"
        counts["DEFERFAILCOUNT"] += row["type"] != "success"
        counts["TOTALSIZE"] += row["size"] if row["type"] == "success" else 0
        if counts["SENDCOUNT"] == MAX_EMAILS:
            self._reached[row["user"], row["domain"]] = row["actionunixtime"]

    def _search(self, parameters: Mapping[str, str]) -> bytes:
        wanted = {kind for kind in (*_COUNTS, "inprogress") if parameters.get(kind) == "1"}
        lowest, below = _bounds(parameters)
        first = bisect_left(self._log, lowest["actionunixtime"], key=lambda kept: kept.action_s)
        most = int(parameters.get("max_results_by_type", "0")) or MOST_ROWS
        found: list[_Kept] = []
        counts: Counter[str] = Counter()
        for kept in self._log[first:]:
            if kept.action_s >= below["actionunixtime"]:
                break
            inside = lowest["sendunixtime"] <= kept.send_s < below["sendunixtime"]
            if inside and kept.kind in wanted:
                counts[kept.kind] += 1
                if counts[kept.kind] <= most:
                    found.append(kept)
        if parameters.get("api.sort.a.field") == "sendunixtime":
            found.sort(key=lambda kept: kept.send_s)
        if parameters.get("api.chunk.enable") == "1":
            size, start = (
                int(parameters.get(f"api.chunk.{name}", "")) for name in ("size", "start")
            )
            found = found[max(0, start - 1) : max(0, start - 1) + size]
        overflowed = any(count > most for count in counts.values())
        metadata = orjson.dumps({**_metadata(SEARCH), "overflowed": int(overflowed)})
        records = b",".join(kept.text for kept in found)
        return b'{"metadata":%b,"data":{"records":[%b]}}' % (metadata, records)

    def _stats(self) -> list[dict[str, Any]]:
        return [
            {
                "USER": user,
                "DOMAIN": domain,
                "PRIMARY_DOMAIN": domain,
                "OWNER": "root",
                **counts,
                "REACHED_MAXEMAILS": self._reached.get((user, domain), 0),
                "REACHED_MAXDEFERFAIL": 0,
            }
            for (user, domain), counts in self._counts.items()
        ]


def _bounds(parameters: Mapping[str, str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the lowest value of each time, and the one that it stays below.

    Raises:
        ValueError: A filter is of another kind.
    """
    lowest, below = dict.fromkeys(_TIMES, 0), dict.fromkeys(_TIMES, 1 << 62)
    if parameters.get("api.filter.enable") != "1":
        return lowest, below
    for name, column in parameters.items():
        if not name.startswith("api.filter.") or not name.endswith(".field"):
            continue
        stem = name.removesuffix("field")
        kind, value = parameters.get(f"{stem}type"), int(parameters.get(f"{stem}arg0", ""))
        if column not in _TIMES or kind not in {"gt_equal", "lt"}:
            raise ValueError("a filter that is not simulated")
        (lowest if kind == "gt_equal" else below)[column] = value
    return lowest, below


def _metadata(function: str) -> dict[str, Any]:
    return {"version": 1, "command": function, "result": 1, "reason": "OK"}


def _refused(function: str, reason: str) -> bytes:
    return orjson.dumps({"metadata": {**_metadata(function), "result": 0, "reason": reason}})
