"""The watch over one partition: the board's panes in front of the detectors, and what they said.

What the detectors know of closed panes is a log of its own: for each pane that closes one or more
frames are written with the roll-up, in ``mail.rollups`` (tier ``watch``), holding what was
learned.  After a restart they learn exactly that again, whatever became of the board's own panes,
and no pane is judged as closed twice.

Pure: reads no clock, does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.core.batch import OutRecord, Told
from pipeline.core.delta import FamilyRows
from pipeline.core.errors import RecordError
from pipeline.core.event import EVENT_TYPES
from pipeline.core.families import KEY_SEPARATOR, Sum
from pipeline.core.pane import BASE_PANE_MS
from pipeline.core.rollup import decode_rollup, encode_rollup
from pipeline.detect.accounts import MOST_SCORES, AccountDetector
from pipeline.detect.alerts import Alert, Facts, Kind, alert_key, decode_alert, encode_alert
from pipeline.detect.blocks import Addresses, BlockDetector
from pipeline.detect.history import Accounts
from pipeline.detect.rules import (
    BLOCK_CLASSES,
    PANE_MS,
    THROTTLE_CLASSES,
    AccountRules,
    BlockRules,
)
from pipeline.detect.testimony import Testimony

NEEDED: Final = frozenset({"user", "ip_provider", "failure"})
"""Families that are judged; keys of the last two that belong together share a partition."""
FRAME_ROWS: Final = 1_000
"""Rows of one frame: with keys of any length below what a topic takes."""
_OPEN_PANES: Final = 3
"""Panes that are looked at before they close: of a backlog the newest ones."""
_ACCOUNTS: Final = "_accounts"
_ADDRESSES: Final = "_addresses"
_OUTCOMES: Final = ("delivered", "bounced", "deferred")
_FAILED: Final = ("bounced", "deferred")

Ints = NDArray[np.int64]


class PaneRows(Protocol):
    """What one pane of a family holds: a row per key and event type."""

    @property
    def names(self) -> Sequence[str]:
        """Joined keys by key number."""

    @property
    def key(self) -> NDArray[np.int32]:
        """Key number."""

    @property
    def event_type(self) -> NDArray[np.uint8]:
        """Event type number."""

    @property
    def sums(self) -> Mapping[Sum, Ints]:
        """The family's sums."""


class Panes(Protocol):
    """The board, as far as it is judged."""

    def begun(self, partition: int, family: str, length_ms: int) -> list[int]:
        """Return the starts of the panes with rows of the family that have begun, oldest first."""

    def pane(self, partition: int, family: str, length_ms: int, start_ms: int) -> PaneRows:
        """Return what one pane of a family holds so far."""

    def last_seen(
        self, partition: int, family: str, name: str, start_ms: int, end_ms: int
    ) -> dict[str, int]:
        """Return by joined key how many values of a distinct count were last seen in this time."""


@dataclass(slots=True)
class _Part:
    accounts: AccountDetector
    blocks: BlockDetector
    judged_ms: int = 0
    """Start of the first pane that was not judged as closed."""
    destinations: dict[int, dict[str, int]] = field(default_factory=dict)
    """By start of an open pane: distinct domains by account, the most that was seen at a look."""
    scores: dict[int, Mapping[str, float]] = field(default_factory=dict)
    """By start of a pane; the last two."""
    frames: list[bytes] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    unheard: list[Alert] = field(default_factory=list)
    """Of these, beginnings for which no events were looked through yet."""
    testimony: Testimony | None = None

    def raise_(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self.alerts.append(alert)
            if alert.kind is Kind.HIJACKED_ACCOUNT and not alert.ends:
                self.unheard.append(alert)


class Watch:
    """Implements ``core.batch.AlertStep``."""

    def __init__(
        self,
        panes: Panes,
        accounts: AccountRules | None = None,
        blocks: BlockRules | None = None,
    ) -> None:
        """Judge the panes of a board that has the families :data:`NEEDED` and 5 min panes."""
        self._panes = panes
        self._rules = accounts or AccountRules(), blocks or BlockRules()
        self._parts: dict[int, _Part] = {}

    # -- recovering

    def open(self, partition: int) -> None:
        """Begin without a past."""
        accounts, blocks = self._rules
        self._parts[partition] = _Part(AccountDetector(accounts), BlockDetector(blocks))

    def restore(self, partition: int, alerts: Sequence[bytes]) -> int:
        """Take the values of all earlier alerts, in the order of the log.

        Returns:
            How many of them are no alerts; they are passed over.
        """
        part, told = self._parts[partition], []
        for value in alerts:
            with suppress(RecordError):
                told.append(decode_alert(value))
        part.accounts.restore(told)
        part.blocks.restore(told)
        return len(alerts) - len(told)

    def learn(self, partition: int, frame: bytes, closed_until: Mapping[int, int]) -> None:
        """Take a frame of closed panes that was written earlier, oldest first, after the alerts.

        Raises:
            FrameVersionError: The frame was written by a newer program.
            InvariantError: The value is no frame.
        """
        part = self._parts[partition]
        for rows in decode_rollup(frame).families:
            if len(rows) == 0:
                continue
            start_ms = int(rows.column_pane()[0]) * BASE_PANE_MS
            if rows.family == _ACCOUNTS:
                part.accounts.learn(start_ms, _accounts_in(rows))
            elif rows.family == _ADDRESSES:
                part.blocks.learn(start_ms, _addresses_in(rows))
        part.judged_ms = max(part.judged_ms, closed_until.get(PANE_MS, 0))

    def close(self, partition: int) -> None:
        """Forget the partition, if it is open."""
        self._parts.pop(partition, None)

    # -- judging

    def look(self, partition: int) -> None:
        """Judge the panes that have begun and are not closed, as they are so far."""
        part = self._parts[partition]
        begun = [start for start in self._begun(partition) if start >= part.judged_ms]
        for start in begun[-_OPEN_PANES:]:
            accounts = self._accounts(partition, part, start)
            part.raise_(part.accounts.look(start, accounts))
            self._note_scores(part, start)
            addresses, classes = self._addresses(partition, start)
            part.raise_(part.blocks.look(start, addresses, _told_by(classes)))

    def judge(self, partition: int, until: Mapping[int, int]) -> None:
        """Judge the panes that a roll-up closes; asked again, none is judged twice."""
        part, until_ms = self._parts[partition], until[PANE_MS]
        for start in self._begun(partition):
            if part.judged_ms <= start < until_ms:
                accounts = self._accounts(partition, part, start)
                part.raise_(part.accounts.close(start, accounts))
                addresses, classes = self._addresses(partition, start)
                part.raise_(part.blocks.close(start, addresses, _told_by(classes)))
                part.frames += frames_of(start, accounts, addresses)
        quiet = until_ms - PANE_MS
        if quiet >= part.judged_ms:  # episodes end in panes without rows too
            part.raise_(part.accounts.episodes.end(quiet))
            part.raise_(part.blocks.episodes.end(quiet))
        part.judged_ms = max(part.judged_ms, until_ms)
        for seen in part.destinations, part.scores:
            for start in [start for start in seen if start < until_ms - PANE_MS]:
                del seen[start]

    # -- what there is to write

    def has_alerts(self, partition: int) -> bool:
        """Tell whether there are alerts to write."""
        return bool(self._parts[partition].alerts)

    def told(self, partition: int) -> Told:
        """Return what there is to write."""
        part = self._parts[partition]
        return Told(
            [OutRecord(encode_alert(alert), alert_key(alert)) for alert in part.alerts],
            part.frames or [encode_rollup(PANE_MS, [])],
        )

    def witness(self, partition: int) -> Testimony | None:
        """Return what wants to see events: those of accounts that an alert begins for; once each."""
        part = self._parts[partition]
        unheard, part.unheard = part.unheard, []
        if not unheard:
            return None
        part.testimony = Testimony(
            {alert.key[0] for alert in unheard}, min(alert.since for alert in unheard)
        )
        return part.testimony

    def hear(self, partition: int) -> None:
        """Add what events told of accounts to the evidence of their alerts."""
        part = self._parts[partition]
        testimony, part.testimony = part.testimony, None
        for alert in part.alerts:
            if testimony is not None and alert.kind is Kind.HIJACKED_ACCOUNT and not alert.ends:
                # The episode holds the same dict: its end tells it again.
                evidence = cast("dict[str, Any]", alert.evidence)
                evidence.update(testimony.facts(alert.key[0]).evidence())

    def written(self, partition: int, *, frames: bool = True) -> None:
        """Note that all alerts were committed, and the frames if *frames*."""
        part = self._parts[partition]
        part.alerts = []
        if frames:
            part.frames = []

    # -- what is shown

    def scores(self) -> dict[str, float]:
        """Return value over limit of the accounts that come nearest to an alert, highest first."""
        found: dict[str, float] = {}
        for part in self._parts.values():
            for scores in part.scores.values():
                for user, score in scores.items():
                    found[user] = max(score, found.get(user, 0.0))
        highest = sorted(found.items(), key=lambda one: (-one[1], one[0]))
        return dict(highest[:MOST_SCORES])

    def open_keys(self, kind: Kind) -> set[str]:
        """Return the joined keys of the open episodes."""
        found: set[str] = set()
        for part in self._parts.values():
            detector = part.accounts if kind is Kind.HIJACKED_ACCOUNT else part.blocks
            found.update(KEY_SEPARATOR.join(key) for key in detector.episodes.open)
        return found

    # -- reading the board

    def _begun(self, partition: int) -> list[int]:
        panes = self._panes
        starts = {start for name in NEEDED for start in panes.begun(partition, name, PANE_MS)}
        return sorted(starts)

    def _note_scores(self, part: _Part, start: int) -> None:
        part.scores[start] = part.accounts.scores
        for old in sorted(part.scores)[:-2]:
            del part.scores[old]

    def _accounts(self, partition: int, part: _Part, start: int) -> Accounts:
        rows = self._panes.pane(partition, "user", PANE_MS, start)
        seen = part.destinations.setdefault(start, {})
        end = start + PANE_MS
        for user, count in self._panes.last_seen(
            partition, "user", "destinations", start, end
        ).items():
            seen[user] = max(count, seen.get(user, 0))
        number, place = np.unique(rows.key, return_inverse=True)
        users = [rows.names[key] for key in number.tolist()]
        every = np.ones(len(rows.key), np.bool_)
        delivered, bounced = (_is(rows, (kind,)) for kind in ("delivered", "bounced"))
        return Accounts(
            users,
            _added(rows.sums[Sum.RECIPIENTS], place, every, len(users)),
            np.fromiter((seen.get(user, 0) for user in users), np.int64, len(users)),
            _added(rows.sums[Sum.COUNT], place, delivered, len(users)),
            _added(rows.sums[Sum.COUNT], place, bounced, len(users)),
        )

    def _addresses(
        self, partition: int, start: int
    ) -> tuple[Addresses, Mapping[tuple[str, ...], dict[str, int]]]:
        rows = self._panes.pane(partition, "ip_provider", PANE_MS, start)
        number, place = np.unique(rows.key, return_inverse=True)
        keys = [tuple(rows.names[key].split(KEY_SEPARATOR)) for key in number.tolist()]
        attempts = _added(rows.sums[Sum.COUNT], place, _is(rows, _OUTCOMES), len(keys))
        tried = np.flatnonzero(attempts)
        keys, attempts = [keys[one] for one in tried.tolist()], attempts[tried]
        classes = self._classes(partition, start)
        columns = [
            np.fromiter(
                (_of_classes(classes.get(key, {}), wanted) for key in keys), np.int64, len(keys)
            )
            for wanted in (BLOCK_CLASSES, THROTTLE_CLASSES)
        ]
        return Addresses(keys, attempts, *columns), classes

    def _classes(self, partition: int, start: int) -> dict[tuple[str, ...], dict[str, int]]:
        """Return the failures by class of each address and provider."""
        rows = self._panes.pane(partition, "failure", PANE_MS, start)
        failed = _is(rows, _FAILED)
        found: dict[tuple[str, ...], dict[str, int]] = {}
        counts = rows.sums[Sum.COUNT][failed].tolist()
        for number, count in zip(rows.key[failed].tolist(), counts, strict=True):
            *key, bounce_class = rows.names[number].split(KEY_SEPARATOR)
            of_key = found.setdefault(tuple(key), {})
            of_key[bounce_class] = of_key.get(bounce_class, 0) + count
        return found


def _is(rows: PaneRows, event_types: Sequence[str]) -> NDArray[np.bool_]:
    return np.isin(rows.event_type, [EVENT_TYPES.index(kind) for kind in event_types])


def _added(values: Ints, place: NDArray[np.intp], wanted: NDArray[np.bool_], length: int) -> Ints:
    total = np.zeros(length, np.int64)
    np.add.at(total, place[wanted], values[wanted])
    return total


def _of_classes(classes: Mapping[str, int], wanted: frozenset[str]) -> int:
    return sum(count for name, count in classes.items() if name in wanted)


def _told_by(classes: Mapping[tuple[str, ...], dict[str, int]]) -> Any:
    return lambda key: Facts(classes=classes.get(key, {}))


# -- frames


def frames_of(start_ms: int, accounts: Accounts, addresses: Addresses) -> Iterator[bytes]:
    """Yield what is learned of a pane, in parts that a record takes."""
    names = [KEY_SEPARATOR.join(key) for key in addresses.keys]
    for family, keys, fields, columns in (
        (_ACCOUNTS, accounts.users, Accounts._fields[1:], accounts[1:]),
        (_ADDRESSES, names, Addresses._fields[1:], addresses[1:]),
    ):
        for start in range(0, len(keys), FRAME_ROWS):
            part = slice(start, start + FRAME_ROWS)
            length = len(keys[part])
            sums = {name: column[part] for name, column in zip(fields, columns, strict=True)}
            rows = FamilyRows.of(
                family,
                keys[part],
                np.arange(length),
                np.zeros(length, np.uint8),
                np.full(length, start_ms // BASE_PANE_MS),
                sums,
            )
            yield encode_rollup(PANE_MS, [rows])


def _accounts_in(rows: FamilyRows) -> Accounts:
    return Accounts(rows.keys, *(rows.column_sum(name) for name in Accounts._fields[1:]))


def _addresses_in(rows: FamilyRows) -> Addresses:
    keys = [tuple(key.split(KEY_SEPARATOR)) for key in rows.keys]
    return Addresses(keys, *(rows.column_sum(name) for name in Addresses._fields[1:]))
