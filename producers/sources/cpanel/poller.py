"""Polling one server: ask, write, remember, wait; nothing that goes wrong here stops another server."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any, Final, Protocol

import xxhash

from pipeline.core.batch import OutRecord
from pipeline.core.errors import FencedError, MailstreamError
from pipeline.kit.clock import Clock as Time
from pipeline.kit.retry import Backoff
from pipeline.kit.service import outcome
from pipeline.kit.settings_cpanel import CpanelServer
from producers.privacy import Privacy
from producers.sources.cpanel import search, stats
from producers.sources.cpanel.checkpoint import Checkpoint
from producers.sources.cpanel.client import (
    SENTENCES,
    Trouble,
    WhmError,
    records_of,
)
from producers.sources.cpanel.exporter import Exporter
from producers.sources.cpanel.journal import State
from producers.sources.cpanel.metrics import Fault, PollerMetrics
from producers.sources.cpanel.polling import (
    PROBE,
    Clock,
    FilterIgnoredError,
    Found,
    Polling,
    Round,
    Window,
    require_inside,
    time_of,
)
from producers.sources.cpanel.rows import Row, RowReader
from producers.sources.cpanel.seen import SeenIds

log = logging.getLogger(__name__)

MAX_ROW_BYTES: Final = 1 << 20
_KAFKA_BACKOFF: Final = Backoff(base_s=0.2, cap_s=10.0)
_MAX_WAIT_S: Final = 600.0
_TAKEN_S: Final = 60.0
"""How long a server is left to another process that took it."""


class Server(search.Api, Protocol):
    """A connection to the server (:class:`producers.sources.cpanel.client.WhmClient`)."""

    async def close(self) -> None:
        """Close it."""


class Journal(Protocol):
    """What is written to (:class:`producers.sources.cpanel.journal.ServerJournal`)."""

    @property
    def is_doubtful(self) -> bool:
        """Tell whether it must be opened again before it is written to."""

    async def open(self, clock: Clock) -> State:
        """Return where the poller stands; nobody else writes from then on."""

    async def commit(self, records: Sequence[OutRecord], position: Checkpoint, now_ms: int) -> None:
        """Write all or nothing; raises MailstreamError, and CancelledError."""


class ServerPoller:
    """Polls one server for as long as the process runs."""

    def __init__(
        self,
        server: CpanelServer,
        client: Server,
        journal: Journal,
        privacy: Privacy,
        metrics: PollerMetrics,
        exporter: Exporter,
        time: Time,
        max_users: int,
    ) -> None:
        """Poll *server* through *client*, and write to *journal*."""
        self.name = server.name
        self._server = server
        self._client = client
        self._journal = journal
        self._privacy = privacy
        self._metrics = metrics
        self._exporter = exporter
        self._time = time
        self._max_users = max_users
        self._reader = RowReader(server.name, server.sending_ip, privacy)
        self._clock: Clock | None = None
        self._polling: Polling | None = None
        self._seen = SeenIds()
        self._failures = 0
        self._random = random.Random()  # noqa: S311  jitter needs no secrecy
        self._backoff = Backoff(server.interval / 1000, _MAX_WAIT_S)
        self.trouble: str | None = None
        """What was wrong with the last poll; None if nothing was."""
        self._paged_s = 0
        self._stats_due = 0.0
        self._stats_trouble: str | None = None

    async def run(self) -> None:
        """Poll until cancelled."""
        interval_s = self._server.interval / 1000
        # Spread by name, so that many servers are not all asked at the same moment.
        share = xxhash.xxh3_64_intdigest(self.name.encode()) % 1000 / 1000
        await self._time.sleep(share * interval_s)
        due = self._time.monotonic()
        while True:
            began = self._time.monotonic()
            failure = await outcome(self.poll())
            self._metrics.took(self.name, self._time.monotonic() - began)
            if failure is None:
                due = max(due + interval_s, self._time.monotonic())
            else:
                due = self._time.monotonic() + self._failed(failure)
            await self._time.sleep(due - self._time.monotonic())

    async def poll(self) -> None:
        """Ask for all that is new, write it, and show today's statistics.

        Raises:
            WhmError: The server gave no usable answer.
            MailstreamError: It could not be written; the log tells what was.
        """
        self._stats_due = self._time.monotonic()
        try:
            await self._search()
            await self._ask_stats_if_due()
        except BaseException:
            self._exporter.drop(self.name)
            raise
        self._failures = 0
        self.trouble = self._stats_trouble
        if self.trouble is None:
            self._metrics.succeeded(self.name, self._time.now_ms())

    async def close(self) -> None:
        """Close the connection to the server."""
        await self._client.close()

    # -- rows

    async def _search(self) -> None:
        try:
            await self._go_round()
        except FilterIgnoredError as exc:
            self._polling = None
            if self._clock is Clock.SEND:
                self._clock = None  # it is found out anew
                raise WhmError(Trouble.FILTER_IGNORED) from exc
            self._clock = self._swept()
            await self._search()

    async def _go_round(self) -> None:
        polling = self._polling
        if polling is None or self._journal.is_doubtful:
            polling = await self._open()
        one_round = polling.begin(self._now_s())
        while (window := one_round.window) is not None:
            found = await self._ask(one_round, window)
            if found is not None:
                await self._write(polling, found)
            await self._ask_stats_if_due()  # catching up may take hours

    async def _open(self) -> Polling:
        """Find out how the server can be asked, then where the log says that we stand."""
        self._polling = None
        if self._clock is None:
            self._clock = await self._probed()
        state = await self._journal.open(self._clock)
        begin_s = self._now_s() - self._server.history // 1000
        polling = Polling(self._clock, state.checkpoint, begin_s)
        self._seen = state.seen
        self._polling = polling
        self._show(polling)
        return polling

    async def _probed(self) -> Clock:
        self._metrics.asked(self.name, search.FUNCTION)
        answer = await search.ask(self._client, self._reader, PROBE)
        try:
            require_inside(PROBE, answer.rows)
        except FilterIgnoredError:
            return self._swept()
        return Clock.ACTION

    def _swept(self) -> Clock:
        log.warning(
            "the WHM server ignores the filter by attempt time: it is swept by send time",
            extra={"origin": self.name},
        )
        return Clock.SEND

    async def _ask(self, one_round: Round, window: Window) -> Found | None:
        self._metrics.asked(self.name, search.FUNCTION)
        try:
            found = one_round.take(window, await search.ask(self._client, self._reader, window))
        except WhmError as exc:
            if exc.trouble in (Trouble.TIMEOUT, Trouble.TOO_LARGE):
                one_round.took_too_long(window)
            raise
        if found is None and window.first is None:
            self._metrics.split(self.name)
        if found is not None and found.paged and window.start_s > self._paged_s:
            self._paged_s = window.start_s  # polls overlap, and it is told once
            self._metrics.overflowed(self.name, incomplete=found.incomplete)
            log.warning(
                "one second holds more rows than the WHM server gives at once",
                extra={"origin": self.name, "second": window.start_s, "rows": len(found.rows)},
            )
        return found

    async def _write(self, polling: Polling, found: Found) -> None:
        now_ms = self._time.now_ms()
        rows = self._new_rows(found)
        stored, records, dropped = self._records(rows, now_ms)
        position = polling.checkpoint
        if records or position != polling.stored:
            try:
                await self._journal.commit(records, position, now_ms)
            except BaseException:
                self._polling = None  # the outcome is unknown: the log tells
                raise
            polling.stored = position
        for row in found.rows:
            at_s = time_of(row, polling.clock)
            self._seen.add(row.event_id, now_ms // 1000 if at_s is None else at_s)
        self._seen.forget_before(polling.oldest_s)
        self._exporter.log(self.name, stored)
        self._metrics.dropped_fields(self.name, dropped)
        self._metrics.written(
            self.name,
            rows=len(records),
            duplicates=len(found.rows) - len(rows),
            malformed=found.malformed,
            too_large=len(rows) - len(records),
        )
        self._show(polling)

    def _new_rows(self, found: Found) -> list[Row]:
        rows = {row.event_id: row for row in found.rows if row.event_id not in self._seen}
        return list(rows.values())

    def _records(
        self, rows: list[Row], received_ms: int
    ) -> tuple[list[dict[str, Any]], list[OutRecord], int]:
        """Return what is stored of *rows*, as fields and as records, and how many fields were dropped."""
        fields, records, dropped = [], [], 0
        for row in rows:
            cut = self._reader.stored(row)
            record = self._reader.record(row, cut.record, received_ms)
            dropped += cut.dropped
            if len(record.value) <= MAX_ROW_BYTES:
                fields.append(cut.record)
                records.append(record)
        return fields, records, dropped

    def _show(self, polling: Polling) -> None:
        self._metrics.stands(
            self.name,
            newest_s=polling.checkpoint.newest_s,
            by_send_time=polling.clock is Clock.SEND,
            seen=len(self._seen),
            forgotten=self._seen.forgotten_early,
        )

    # -- statistics

    async def _ask_stats_if_due(self) -> None:
        if self._time.monotonic() >= self._stats_due:
            await self._ask_stats()

    async def _ask_stats(self) -> None:
        """Ask for today's figures; rows are polled on, whatever comes of it."""
        now_s = self._now_s()
        start_s = stats.midnight_s(now_s, self._server.timezone)
        self._stats_due = self._time.monotonic() + self._server.interval / 1000
        self._metrics.asked(self.name, stats.FUNCTION)
        try:
            answer = await self._client.call(stats.FUNCTION, stats.parameters_of(start_s, now_s))
            records = records_of(answer)
        except WhmError as exc:
            self._exporter.drop(self.name)
            self._stats_trouble = self._tell(exc, stats.FUNCTION)
            return
        found = stats.read_stats(records, start_s, self._privacy, self._max_users)
        self._stats_trouble = None
        self._metrics.omitted(self.name, found.omitted)
        self._exporter.show(self.name, found)

    def _tell(self, error: WhmError, function: str) -> str:
        """Log and count a call that failed; return it as a sentence."""
        detail = self._privacy.redact(error.detail)
        self._metrics.failed(self.name, error.trouble)
        level = logging.WARNING if error.trouble in _HEALING else logging.ERROR
        where = {"origin": self.name, "function": function, "detail": detail}
        log.log(level, SENTENCES[error.trouble], extra=where)
        return str(WhmError(error.trouble, detail))

    # -- failures

    def _failed(self, failure: Exception) -> float:
        """Tell about a failed poll; return how long to wait, seconds."""
        self._failures += 1
        where = {"origin": self.name, "attempt": self._failures}
        if isinstance(failure, WhmError):
            self.trouble = self._tell(failure, search.FUNCTION)
            interval_s = self._server.interval / 1000
            return interval_s + self._backoff.wait_s(self._failures - 1, self._random)
        if isinstance(failure, FencedError):
            self.trouble = "another process polls this server"
            self._metrics.failed(self.name, Fault.TAKEN)
            log.error("another process polls this WHM server", extra=where)
            return self._random.uniform(_TAKEN_S, 2 * _TAKEN_S)
        if isinstance(failure, MailstreamError):
            self.trouble = str(failure)
            self._metrics.failed(self.name, Fault.KAFKA)
            log.warning("Kafka took nothing of a poll", extra={**where, "error": str(failure)})
            return _KAFKA_BACKOFF.wait_s(self._failures, self._random)
        self._polling = None
        self.trouble = "a fault of ours; see the log"
        self._metrics.failed(self.name, Fault.BUG)
        log.error("a poll failed", exc_info=failure, extra=where)
        return self._server.interval / 1000 + self._backoff.wait_s(self._failures, self._random)

    def _now_s(self) -> int:
        return self._time.now_ms() // 1000


_HEALING: Final = frozenset({Trouble.TIMEOUT, Trouble.UNREACHABLE})
"""Troubles that need nobody's hand, as a rule."""
