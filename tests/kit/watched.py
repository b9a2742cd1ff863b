"""One partition's board and watch over simulated events, with a log in place of Kafka."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from mailstream.simulation.traffic import SimulatedEvent
from pipeline.core.batch import OutRecord
from pipeline.core.rollup import WATCH, Cut, cut_in, deltas_since, of_use
from pipeline.detect.alerts import decode_alert
from pipeline.detect.watch import Watch
from pipeline.enrich.classify import Classifier
from pipeline.enrich.providers import provider_of
from pipeline.fold.board import Board
from tests.kit.detection import HOUR, LOOK, MINUTE, PANE, Raised, class_of
from tests.kit.frames import FrameRecord, Row, frame

WINDOWS = (MINUTE, 5 * MINUTE, HOUR, 24 * HOUR)
MARGIN = 7 * MINUTE


class Written(NamedTuple):
    """A record of the roll-ups."""

    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int


class Partition:
    """What the transport does for one partition of the deltas, step by step, without Kafka."""

    def __init__(self) -> None:
        self.deltas: list[FrameRecord] = []
        self.rollups: list[Written] = []
        self.alerts: list[OutRecord] = []
        self.raised: list[Raised] = []
        self._cut: Cut | None = None
        self._rows: defaultdict[str, Counter[Any]] = defaultdict(Counter)
        self._recipients: Counter[Any] = Counter()
        self._values: defaultdict[Any, dict[str, set[str]]] = defaultdict(dict)
        self._next_tick = 0
        self._late_at = 0
        self._token = 0
        self._classifier = Classifier()
        self._begin()

    def _begin(self) -> None:
        self.board = Board(WINDOWS)
        self.watch = Watch(self.board)
        self.board.open(0)
        self.watch.open(0)

    def run(self, events: Iterable[SimulatedEvent]) -> list[Raised]:
        """Return the alerts of all *events*."""
        for one in events:
            if one.at_ms >= self._next_tick:
                self.tick(one.at_ms)
            if one.source == "zonemta" and not one.repeat:
                self._take(one.event, one.event_ms)
        return self.raised

    def tick(self, now_ms: int, *, committed: bool = True) -> None:
        """Fold what came, judge, and write what there is to write; or fail to."""
        self._next_tick = now_ms + LOOK
        self._fold(now_ms)
        self.board.complete(0)
        late = now_ms - self._late_at >= PANE
        until = self.board.closing(0, now_ms, now_ms, caught_up=True, late=late)
        if until is not None:
            self.watch.judge(0, until)
        self.watch.look(0)
        if self.watch.witness(0) is not None:
            self.watch.hear(0)
        if until is not None:
            self._roll_up(now_ms, until, committed=committed)
        elif self.watch.has_alerts(0) and self._cut is not None and committed:
            self._token += 1
            self._cut = replace(self._cut, token=f"{self._token}")
            self._tell(now_ms)
            self.watch.written(0, frames=False)

    def _roll_up(self, now_ms: int, until: Mapping[int, int], *, committed: bool) -> None:
        self._token += 1
        cut = Cut(self.board.schema, "epoch", f"{self._token}", until, len(self.deltas))
        frames = [
            Written(value, cut.headers(length), now_ms)
            for length, value in self.board.rollup(0, until)
        ]
        told = self.watch.told(0)
        if not committed:
            return
        self.rollups += frames
        self.rollups += [Written(value, cut.headers(WATCH), now_ms) for value in told.frames]
        self._tell(now_ms)
        self._cut = cut
        if self.board.rolled_up(0, until):
            self._late_at = now_ms
        self.watch.written(0)

    def _tell(self, now_ms: int) -> None:
        told = self.watch.told(0)
        self.alerts += told.alerts
        self.raised += [Raised(now_ms, decode_alert(one.value)) for one in told.alerts]

    def move(self, now_ms: int, *, anew: bool = False) -> None:
        """Recover on another worker; *anew*: the frames of panes are of no use to it."""
        self._fold(now_ms)
        self._begin()
        self.watch.restore(0, [one.value for one in self.alerts])
        cut = None if anew else self._cut
        self._cut = cut
        kept = [one for one in self.rollups if one.timestamp > now_ms - 24 * HOUR - MINUTE]
        for one in kept:
            headers = dict(one.headers)
            if headers["tier"] == WATCH.encode():
                written = cut_in(one.headers)
                assert written is not None
                self.watch.learn(0, one.value, written.closed_until)
            if cut is not None and of_use(one, now_ms):
                self.board.restore(0, [one.value], now_ms)
        since = now_ms - 24 * HOUR - MARGIN
        if anew:
            self.rollups = [one for one in kept if dict(one.headers)["tier"] == WATCH.encode()]
        if cut is not None:
            self.board.follow(0, cut)
            since = max(since, deltas_since(cut, now_ms, MARGIN))
        for record in self.deltas:
            if (record.timestamp or 0) >= since or (cut and record.offset >= cut.deltas_end):
                self.board.fold(0, [record], now_ms)
        self.board.complete(0)

    def _fold(self, now_ms: int) -> None:
        rows: dict[str, Sequence[Row]] = {
            family: [self._row(family, place, count) for place, count in counted.items()]
            for family, counted in self._rows.items()
        }
        self._rows.clear()
        self._recipients.clear()
        self._values.clear()
        if rows:
            made = frame(rows, watermark_ms=now_ms)
            record = made._replace(offset=len(self.deltas), timestamp=now_ms)
            self.deltas.append(record)
            self.board.fold(0, [record], now_ms)

    def _row(self, family: str, place: tuple[Any, str, int], count: int) -> Row:
        key, kind, pane = place
        values = {
            name: sorted(found) for name, found in self._values.get((family, *place), {}).items()
        }
        recipients = self._recipients[place] if family == "user" else 0
        return Row(key, kind, pane, events=count, recipients=recipients, values=values)

    def _take(self, event: dict[str, Any], event_ms: int) -> None:
        if event.get("from_address") == "":
            return
        user, kind, pane = (
            (event["from_address"],),
            event["event_type"],
            event_ms // 10_000 * 10_000,
        )
        self._rows["user"][user, kind, pane] += 1
        if kind == "sent":
            self._recipients[user, kind, pane] += event["recipients"]
        values = self._values["user", user, kind, pane]
        values.setdefault("client_ips", set()).add(event["client_ip"])
        if "to_domain" in event:
            values.setdefault("destinations", set()).add(event["to_domain"])
        if "to_domain" in event and "sending_ip" in event:
            key = event["sending_ip"], provider_of(event["to_domain"])
            self._rows["ip_provider"][key, kind, pane] += 1
            if kind in ("bounced", "deferred"):
                found = class_of(self._classifier, event, key[1])
                self._rows["failure"][(*key, found), kind, pane] += 1
