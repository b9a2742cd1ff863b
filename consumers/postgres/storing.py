"""Writing rows within a transaction that others may share: claims, COPY, what is refused, positions."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from consumers.postgres.connection import REFUSED, Connection, one, said
from consumers.postgres.rows import Row, rows_of
from consumers.postgres.tables import EVENTS, Table
from consumers.sinks.base import Item, MovedError, Refused, Why, Written
from pipeline.core.errors import Reason, RecordError
from pipeline.core.pane import DAY_MS, HOUR_MS
from pipeline.core.timestamp import MAX_MS, rfc3339

log = logging.getLogger(__name__)

MAX_DETAIL: Final = 500
_STEPS: Final = (("day", DAY_MS), ("hour", HOUR_MS))

_CLAIM: Final = """
SELECT partition, next_offset FROM mailstream_offsets
WHERE topic = %s AND partition = ANY(%s) ORDER BY partition FOR UPDATE"""
_ADVANCE: Final = """
UPDATE mailstream_offsets AS o SET next_offset = n.next_offset, written = now()
FROM unnest(%s::integer[], %s::bigint[]) AS n (partition, next_offset)
WHERE o.topic = %s AND o.partition = n.partition"""
_REJECT: Final = """
COPY mailstream_rejects (topic, partition, "offset", written, reason, detail, key, value)
FROM STDIN"""
_KEPT: Final = """
SELECT (extract(epoch FROM greatest(kept_from, '1970-01-01Z')) * 1000)::bigint
FROM mailstream_kept WHERE name = %s FOR SHARE"""
_CHANGED: Final = """
INSERT INTO mailstream_changed AS c (step, start)
SELECT * FROM unnest(%s::text[], %s::timestamptz[]) AS n (step, start) ORDER BY 1, 2
ON CONFLICT (step, start) DO UPDATE SET changes = c.changes + 1, last_change = clock_timestamp()"""


@dataclass(frozen=True, slots=True)
class Unit:
    """One record and its rows; none if it was put aside."""

    item: Item
    rows: Sequence[Row]
    error: RecordError | None = None


def units_of(name: str, items: Iterable[Item]) -> list[Unit]:
    """Return the units of records of the topic called *name*."""
    return [_unit(name, item) for item in items]


def _unit(name: str, item: Item) -> Unit:
    try:
        return Unit(item, rows_of(name, item))
    except RecordError as exc:
        return Unit(item, (), exc)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as exc:
        # A fault of ours must not stop the partition: the record is kept, and the reason tells.
        name_of = type(exc).__name__
        where = {**item.place._asdict(), "error": name_of}
        log.error("a record is no rows", extra=where)  # noqa: TRY400  a traceback may hold what it holds
        return Unit(item, (), RecordError(Reason.BUG, name_of))


class Writing:
    """One transaction's work.  The caller begins and commits it."""

    def __init__(self, connection: Connection, *, plain: bool) -> None:
        """Write over *connection*.

        Args:
            connection: In a transaction.
            plain: Whether stretches that change are noted, for the history.
        """
        self._connection = connection
        self._plain = plain
        self.written = Written()
        self._rejects: list[tuple[Any, ...]] = []

    async def store(self, topic: str, units: Sequence[Unit], at: Mapping[int, int]) -> None:
        """Write *units* of *topic* (its full name), whose partitions go on *at* these offsets.

        Raises:
            MovedError: They do not.
        """
        ends: dict[int, int] = {}
        for unit in units:
            place = unit.item.place
            ends[place.partition] = place.offset + 1
        await self._claim(topic, {number: at[number] for number in ends})
        kept_ms = 0
        if self._plain and any(unit.rows and unit.rows[0].table is EVENTS for unit in units):
            # Locked before the table is: upkeep takes both in this order.
            kept_ms = int(await one(self._connection, _KEPT, [EVENTS.name]))
        for unit in units:
            if unit.error is not None:
                self._reject(unit.item, unit.error.reason, unit.error.detail)
        stored = await self._copy([unit for unit in units if unit.rows])
        await self._put_aside()
        if self._plain:
            await self._note(stored, kept_ms)
        await self._connection.execute(_ADVANCE, [list(ends.keys()), list(ends.values()), topic])

    async def _claim(self, topic: str, expected: Mapping[int, int]) -> None:
        cursor = await self._connection.execute(_CLAIM, [topic, list(expected)])
        found: dict[int, int] = dict(await cursor.fetchall())
        if found != expected:
            raise MovedError(f"{topic}: another process has written what was to be written here")

    async def _copy(self, units: Sequence[Unit]) -> list[Unit]:
        """Write the rows of *units*; find by halving what is refused, and put it aside."""
        if not units:
            return []
        try:
            async with self._connection.transaction():
                await self._copy_all(units)
        except REFUSED as exc:
            if len(units) > 1:
                middle = len(units) // 2
                return [*await self._copy(units[:middle]), *await self._copy(units[middle:])]
            self._reject(units[0].item, Refused.STORE, said(exc))
            return []
        rows = Counter(row.table.name for unit in units for row in unit.rows)
        for name, count in rows.items():
            self.written.rows[name] = self.written.rows.get(name, 0) + count
        return list(units)

    async def _copy_all(self, units: Sequence[Unit]) -> None:
        by_table: dict[Table, list[tuple[Any, ...]]] = defaultdict(list)
        for unit in units:
            for row in unit.rows:
                by_table[row.table].append(row.values)
        for table, rows in by_table.items():
            async with (
                self._connection.cursor() as cursor,
                cursor.copy(_copy_statement(table)) as copy,
            ):
                for values in rows:
                    await copy.write_row(values)

    def _reject(self, item: Item, why: Why, detail: str) -> None:
        shown = detail.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_DETAIL]
        words = shown.encode("utf-8", "replace").decode()
        written = rfc3339(min(max(0, item.time_ms), MAX_MS))
        self._rejects.append((*item.place, written, why.value, words, item.key, item.value))
        rejected = self.written.rejected
        rejected[why] = rejected.get(why, 0) + 1

    async def _put_aside(self) -> None:
        if self._rejects:
            async with self._connection.cursor() as cursor, cursor.copy(_REJECT) as copy:
                for values in self._rejects:
                    await copy.write_row(values)

    async def _note(self, units: Iterable[Unit], kept_ms: int) -> None:
        times = {
            row.time_ms // HOUR_MS * HOUR_MS
            for unit in units
            for row in unit.rows
            if row.table is EVENTS and row.time_ms >= kept_ms
        }
        pairs = sorted(
            {(step, time // length * length) for time in times for step, length in _STEPS}
        )
        if pairs:
            await self._connection.execute(
                _CHANGED, [[step for step, _ in pairs], [rfc3339(start) for _, start in pairs]]
            )


def _copy_statement(table: Table) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    return sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
