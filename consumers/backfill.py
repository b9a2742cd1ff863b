"""Backfill: the windows of ``/metrics`` as they were, from events or panes, as OpenMetrics with times.

At a time t a window w shows the events of [t - w, t): what ``/metrics`` showed in the moment before
t, when the pane that ends at t was full.  Times are multiples of the step, and windows too.
Memory grows with the distinct (family, key, event type, step); a step is as fine as the result can be.
Panes of 5 minutes tell windows that are made of them, of the families that are published, and no counts
of different values.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from consumers.backfill_distincts import ByStep, Distincts, numbers
from consumers.panes import Pane, key_of_pane, pane_of
from consumers.subscribe import event_of
from pipeline.core.errors import ConfigError, Reason, RecordError
from pipeline.core.event import MailEvent
from pipeline.core.families import DISTINCT_WINDOWS_MS, FAMILIES, Distinct, Export, Family, Sum
from pipeline.core.membership import counts_volume, is_of
from pipeline.core.pane import window_label
from pipeline.core.timestamp import epoch_ms

log = logging.getLogger(__name__)

OTHER: Final = "_other"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is wanted."""

    since_ms: int
    until_ms: int
    """Both inclusive, and multiples of the step."""
    step_ms: int
    windows: Sequence[int]
    top_keys: int
    """Keys of a family that keep their name; the rest are summed."""
    families: Sequence[Family] = FAMILIES

    @property
    def first_ms(self) -> int:
        """Return the time of the first event that counts."""
        return self.since_ms - max(self.windows)


def planned(
    since_ms: int,
    until_ms: int,
    step_ms: int,
    windows: Iterable[int],
    top_keys: int,
    families: Sequence[Family] = FAMILIES,
) -> Plan:
    """Return a plan of the windows that fit the step, its times moved to multiples of it.

    Raises:
        ConfigError: There is no such window, or no time in the range.
    """
    fitting = [window for window in windows if window % step_ms == 0]
    if not fitting:
        raise ConfigError(["--step: no window of pipeline.windows is a multiple of it"])
    first, last = -(-since_ms // step_ms) * step_ms, until_ms // step_ms * step_ms
    if first > last:
        raise ConfigError(["--from, --until: the range holds no multiple of --step"])
    return Plan(
        since_ms=first,
        until_ms=last,
        step_ms=step_ms,
        windows=fitting,
        top_keys=top_keys,
        families=families,
    )


class Slot(NamedTuple):
    """What is added up by step."""

    family: str
    key: tuple[str, ...]
    event_type: str


class Tally:
    """Adds up events."""

    def __init__(self, plan: Plan) -> None:
        """Begin with none."""
        self.plan = plan
        self.counted = 0
        """Events, or panes, that are in a window."""
        self.partial = 0
        """Records among them that told something late, or may lack something."""
        self._families = {family.name: family for family in plan.families}
        self._sums: dict[Sum, dict[Slot, Counter[int]]] = {
            kind: defaultdict(Counter) for kind in Sum
        }
        self._distincts = Distincts()

    def add(self, event: MailEvent) -> None:
        """Count *event*, if it has a time in the range and was not late, as windows do."""
        if event.late or event.timestamp is None or event.event_type is None:
            return
        try:
            at = epoch_ms(event.timestamp)
        except RecordError:
            return
        plan = self.plan
        if not plan.first_ms <= at < plan.until_ms:
            return
        self.counted += 1
        pane = at - at % plan.step_ms
        for family in plan.families:
            key = key_of(family, event)
            if key is not None:
                slot = Slot(family.name, key, event.event_type)
                for kind, amount in _amounts(family, event):
                    self._sums[kind][slot][pane] += amount
                self._distincts.add(family, key, event, pane)

    def add_pane(self, pane: Pane) -> None:
        """Count *pane*, if it is in the range and of a family that is wanted.

        Raises:
            RecordError: It is none of ours.
        """
        family = self._families.get(pane.family)
        if family is None:
            return
        try:
            key = key_of_pane(pane)
        except msgspec.MsgspecError as exc:
            raise RecordError(Reason.INVALID_FIELD, f"key: {exc}") from exc
        if len(key) != len(family.fields) or pane.event_type not in family.event_types:
            raise RecordError(Reason.INVALID_FIELD, f"{family.name}: no such key or event type")
        start, plan = pane.start_ms, self.plan
        length = pane.length_s * 1000
        if length <= 0 or plan.step_ms % length or start % length:
            raise RecordError(Reason.INVALID_FIELD, f"length_s: {pane.length_s} fits no step")
        if not plan.first_ms <= start < plan.until_ms:
            return
        self.counted += 1
        self.partial += pane.partial
        slot = Slot(family.name, key, pane.event_type)
        for kind in family.sums:
            self._sums[kind][slot][start - start % plan.step_ms] += getattr(pane, kind.value)

    @property
    def found(self) -> set[str]:
        """Return the families of which something was counted."""
        return {slot.family for slot in self._sums[Sum.COUNT]}

    def lines(self) -> Iterator[str]:
        """Yield the lines of the OpenMetrics text."""
        for family in self.plan.families:
            named = self._named(family)
            for export in family.exports:
                series = self._series(family, export, named)
                if series:
                    yield f"# TYPE {export.metric} gauge\n# HELP {export.metric} {export.help}\n"
                    for labels, sums in sorted(series.items()):
                        yield from self._samples(export.metric, labels, sums)
            for distinct in family.distincts:
                yield from self._distinct_lines(family, distinct, named)
        yield "# EOF\n"

    def _named(self, family: Family) -> set[tuple[str, ...]]:
        """Return the keys that keep their name: those with most events, ties by key."""
        totals: Counter[tuple[str, ...]] = Counter()
        for slot, panes in self._sums[Sum.COUNT].items():
            if slot.family == family.name:
                totals[slot.key] += panes.total()
        ranked = sorted(totals, key=lambda key: (-totals[key], key))
        return set(ranked[: self.plan.top_keys])

    def _series(
        self, family: Family, export: Export, named: set[tuple[str, ...]]
    ) -> dict[str, Counter[int]]:
        """Return the sums by step of each series of a metric, by labels."""
        found: dict[str, Counter[int]] = defaultdict(Counter)
        for slot, panes in self._sums[export.sum].items():
            if slot.family != family.name:
                continue
            key = slot.key if slot.key in named else _other(family, slot.key)
            labels = dict(zip(family.labels, key, strict=True))
            if export.by_event_type:
                labels["event_type"] = slot.event_type
            found[_text(labels)].update(panes)
        return found

    def _distinct_lines(
        self, family: Family, distinct: Distinct, named: set[tuple[str, ...]]
    ) -> Iterator[str]:
        windows = [window for window in self.plan.windows if window in DISTINCT_WINDOWS_MS]
        found = self._distincts.of(family, distinct.name)
        if not windows or not found:
            return
        yield f"# TYPE {distinct.metric} gauge\n# HELP {distinct.metric} {distinct.help}\n"
        by_labels: dict[str, list[ByStep]] = defaultdict(list)
        for key, steps in found.items():
            shown = key if key in named else _other(family, key)
            by_labels[_text(dict(zip(family.labels, shown, strict=True)))].append(steps)
        for labels, keys in sorted(by_labels.items()):
            for window in windows:
                changes: Counter[int] = Counter()
                for steps in keys:
                    for at, change in numbers(steps, window, self.plan.step_ms):
                        changes[at] += change
                yield from self._lines_of(distinct.metric, labels, window, changes)

    def _samples(self, metric: str, labels: str, sums: Mapping[int, int]) -> Iterator[str]:
        for window in self.plan.windows:
            changes = changes_of(sums, window, self.plan.step_ms)
            yield from self._lines_of(metric, labels, window, changes)

    def _lines_of(
        self, metric: str, labels: str, window: int, changes: Mapping[int, int]
    ) -> Iterator[str]:
        plan = self.plan
        head = f'{metric}{{window="{window_label(window)}",{labels}}}'
        for at, value in running(changes, plan.step_ms):
            if plan.since_ms <= at <= plan.until_ms:
                yield f"{head} {value} {at / 1000:.3f}\n"


def key_of(family: Family, event: MailEvent) -> tuple[str, ...] | None:
    """Return the key under which *event* counts in *family*, or None if it does not."""
    if event.event_type not in family.event_types or not is_of(family.mail, event):
        return None
    key = []
    for name in family.fields:
        value = getattr(event, name)
        if value is None:
            value = family.defaults.get(name)
        if value is None:
            return None
        key.append(value)
    return tuple(key)


def _amounts(family: Family, event: MailEvent) -> Iterator[tuple[Sum, int]]:
    yield Sum.COUNT, 1
    if counts_volume(event.source or "", event.event_type or ""):
        if Sum.RECIPIENTS in family.sums:
            yield Sum.RECIPIENTS, 1 if event.recipients is None else event.recipients
        if Sum.BYTES in family.sums:
            yield Sum.BYTES, event.size_bytes or 0


def _other(family: Family, key: Sequence[str]) -> tuple[str, ...]:
    fields = zip(family.fields, key, strict=True)
    return tuple(value if name in family.bounded else OTHER for name, value in fields)


def _text(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def changes_of(sums: Mapping[int, int], window: int, step: int) -> Counter[int]:
    """Return by how much the sum over the window before each time changes."""
    changes: Counter[int] = Counter()
    for pane, amount in sums.items():
        changes[pane + step] += amount
        changes[pane + step + window] -= amount
    return changes


def running(changes: Mapping[int, int], step: int) -> Iterator[tuple[int, int]]:
    """Yield (time, value) at every step where the value is not zero, and one zero after."""
    value = 0
    times = sorted(at for at, change in changes.items() if change)
    for at, until in pairwise([*times, times[-1] + step] if times else []):
        value += changes[at]
        if value:
            yield from ((one, value) for one in range(at, until, step))
        else:
            yield at, 0


class TallyTarget:
    """A replay's target that counts the events, or the panes, of its records."""

    def __init__(self, tally: Tally, *, of_panes: bool = False) -> None:
        """Count into *tally*."""
        self._take = self._pane if of_panes else self._event
        self._tally = tally
        self.unreadable = 0
        """Records that hold none."""

    async def open(self, partitions: int) -> Mapping[int, int]:  # noqa: ARG002  the contract's
        """Begin at the beginning."""
        return {}

    async def write(self, records: Sequence[Any], positions: Mapping[int, int]) -> None:  # noqa: ARG002
        """Count."""
        for record in records:
            self._take(record)

    def _event(self, record: Any) -> None:
        event = event_of(record)
        if event is None:
            self.unreadable += 1
        else:
            self._tally.add(event)

    def _pane(self, record: Any) -> None:
        try:
            self._tally.add_pane(pane_of(record.value or b""))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecordError) as exc:
            self.unreadable += 1
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.warning("a record is no pane", extra={**where, "error": str(exc)})

    async def close(self) -> None:
        """Nothing is held."""


def write(tally: Tally, path: Path) -> int:
    """Write the text to *path*, which must not be there, for its owner alone; return the samples.

    Raises:
        OSError: It is there, or cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    samples = 0
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # events name people
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for line in tally.lines():
                file.write(line)
                samples += not line.startswith("#")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(partial)  # unlike a rename, this never replaces a file
    finally:
        partial.unlink(missing_ok=True)
    return samples
